-- What calls to external services are authenticated with: for one subscriber, one service and exactly one host. The seal holds
-- the secret, and is bound to all of these columns but the key's name: a row that was copied or changed does not open.
CREATE TABLE credentials (
    subscriber_id text NOT NULL CHECK (subscriber_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    service text NOT NULL,
    host text NOT NULL CHECK (host = lower(host)),
    kind text NOT NULL CHECK (kind IN ('header', 'oauth')),
    header text NOT NULL,
    sealed bytea NOT NULL,
    -- The key that it is sealed under, for telling and for rotation; the seal names it as well.
    key_name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- When the secret was set or refreshed; sealing it again under another key is no change.
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (subscriber_id, service, host)
);
