-- Names that executives may bear; a reserved one is meant for one subscriber.
CREATE TABLE available_names (
    name text PRIMARY KEY,
    reserved_for text
);

-- Who stands at a subscriber's side. Ids are the subscriber's own: everybody may have a `ceo`.
CREATE TABLE subscriber_executives (
    subscriber_id text NOT NULL,
    executive_id text NOT NULL CHECK (executive_id ~ '^[a-z0-9][a-z0-9-]{0,63}$'),
    position integer NOT NULL,
    name text NOT NULL REFERENCES available_names,
    role text NOT NULL,
    department text NOT NULL,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'away')),
    capabilities text[] NOT NULL DEFAULT '{}',
    -- As speech engines know it.
    voice text NOT NULL,
    -- What a model is told of who it is.
    persona text NOT NULL,
    PRIMARY KEY (subscriber_id, executive_id),
    UNIQUE (subscriber_id, name)
);

CREATE TABLE executive_activity (
    activity_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscriber_id text NOT NULL,
    executive_id text NOT NULL,
    action text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    happened_at timestamptz NOT NULL
);

CREATE INDEX executive_activity_of_subscriber ON executive_activity (subscriber_id, happened_at DESC, activity_id DESC);

-- What an executive asks its subscriber's consent for. Who is too late to decide finds it expired.
CREATE TABLE executive_approvals (
    approval_id uuid PRIMARY KEY,
    subscriber_id text NOT NULL,
    executive_id text NOT NULL,
    action text NOT NULL,
    type text NOT NULL,
    value numeric CHECK (value >= 0),
    currency text CHECK ((currency IS NULL) = (value IS NULL)),
    risk text NOT NULL CHECK (risk IN ('low', 'medium', 'high')),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL CHECK (expires_at > created_at),
    decision text CHECK (decision IN ('approve', 'reject')),
    decided_by text,
    decided_at timestamptz,
    reason text,
    CHECK ((decision IS NULL) = (decided_at IS NULL) AND (decision IS NULL) = (decided_by IS NULL))
);

CREATE INDEX executive_approvals_pending ON executive_approvals (subscriber_id, expires_at) WHERE decision IS NULL;
