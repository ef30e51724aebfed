-- A reserved name is borne by nobody but whom it is reserved for.
CREATE FUNCTION executive_name_is_not_another_s() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT FROM available_names WHERE name = NEW.name AND reserved_for <> NEW.subscriber_id) THEN
        RAISE EXCEPTION 'the name % is reserved for somebody else', NEW.name USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER executive_name_is_not_another_s
    BEFORE INSERT OR UPDATE OF subscriber_id, name ON subscriber_executives
    FOR EACH ROW EXECUTE FUNCTION executive_name_is_not_another_s();
