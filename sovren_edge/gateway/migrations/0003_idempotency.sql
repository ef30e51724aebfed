-- What callers have asked for under an idempotency key of theirs, for a day. A row stands here before its request is dialled.
CREATE TABLE idempotency_keys (
    subscriber_id text NOT NULL,
    service text NOT NULL,
    key text NOT NULL,
    -- SHA-256 of the method, the URL and the body.
    fingerprint bytea NOT NULL,
    request_id uuid NOT NULL,
    -- The process that has the request in hand.
    owner text NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'kept', 'not_kept', 'unknown')),
    -- Sealed, and bound to the key and what it stands for.
    answer bytea CHECK ((answer IS NOT NULL) = (state = 'kept')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (subscriber_id, service, key)
);

-- Answers are encrypted: compressing them is in vain.
ALTER TABLE idempotency_keys ALTER COLUMN answer SET STORAGE EXTERNAL;

CREATE INDEX idempotency_keys_running ON idempotency_keys (owner) WHERE state = 'running';
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
