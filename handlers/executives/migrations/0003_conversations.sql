-- Conversations: whoever asks again within one is understood by what was said before.
CREATE TABLE executive_sessions (
    session_id uuid PRIMARY KEY,
    subscriber_id text NOT NULL,
    executive_id text NOT NULL,
    created_at timestamptz NOT NULL,
    used_at timestamptz NOT NULL
);

CREATE INDEX executive_sessions_by_age ON executive_sessions (used_at);

-- A question and its answer. Of a session only the newest stay.
CREATE TABLE executive_exchanges (
    exchange_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES executive_sessions ON DELETE CASCADE,
    question text NOT NULL,
    answer text NOT NULL,
    asked_at timestamptz NOT NULL
);

CREATE INDEX executive_exchanges_of_session ON executive_exchanges (session_id, exchange_id);

-- What answers have cost. Tokens are null where the model's server does not tell them.
CREATE TABLE executive_usage (
    usage_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscriber_id text NOT NULL,
    executive_id text NOT NULL,
    action text NOT NULL,
    model text NOT NULL,
    prompt_tokens integer,
    completion_tokens integer,
    audio_ms integer NOT NULL,
    answered_at timestamptz NOT NULL
);

CREATE INDEX executive_usage_of_subscriber ON executive_usage (subscriber_id, answered_at);

-- What was asked under an idempotency key, for a day.
CREATE TABLE executive_answers (
    subscriber_id text NOT NULL,
    idempotency_key text NOT NULL,
    -- Of the question: SHA-256.
    fingerprint bytea NOT NULL,
    answer jsonb NOT NULL,
    answered_at timestamptz NOT NULL,
    PRIMARY KEY (subscriber_id, idempotency_key)
);

CREATE INDEX executive_answers_by_age ON executive_answers (answered_at);
