-- Who may call, and at which limit if not everybody's.
CREATE TABLE subscribers (
    subscriber_id text PRIMARY KEY CHECK (subscriber_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    hourly_limit integer CHECK (hourly_limit > 0),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- One row for each request, written before it is dialled, and once more when it has ended. The key is made by the gateway, so
-- that the same row may be written any number of times.
CREATE TABLE api_requests (
    request_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    settled_at timestamptz,
    owner text NOT NULL,
    subscriber_id text NOT NULL,
    service text NOT NULL,
    method text NOT NULL,
    host text NOT NULL,
    path text NOT NULL,
    decision text NOT NULL CHECK (decision IN ('reserved', 'refused', 'settled', 'unknown')),
    reason text NOT NULL DEFAULT '',
    would_deny text NOT NULL DEFAULT '',
    grant_charged boolean NOT NULL DEFAULT false,
    -- When the limiter granted each attempt, in microseconds of the clock named; null where it was refunded.
    granted_us bigint[] NOT NULL DEFAULT '{}',
    clock text NOT NULL DEFAULT '',
    idempotent_replay boolean NOT NULL DEFAULT false,
    attempts integer NOT NULL DEFAULT 0,
    -- A flood of refusals is one row a minute.
    count integer NOT NULL DEFAULT 1,
    resolved_ip text NOT NULL DEFAULT '',
    status integer,
    upstream_status integer,
    dns_ms integer,
    connect_ms integer,
    ttfb_ms integer,
    total_ms integer,
    bytes_in bigint NOT NULL DEFAULT 0,
    bytes_out bigint NOT NULL DEFAULT 0,
    trace_id text NOT NULL DEFAULT '',
    PRIMARY KEY (created_at, request_id)
) PARTITION BY RANGE (created_at);

-- What comes while no partition has been made for its day.
CREATE TABLE api_requests_default PARTITION OF api_requests DEFAULT;

CREATE INDEX api_requests_of_subscriber ON api_requests (subscriber_id, created_at);
CREATE INDEX api_requests_open ON api_requests (owner) WHERE settled_at IS NULL;

-- Never changed once written; amounts are millionths of a US dollar.
CREATE TABLE api_costs (
    request_id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL,
    subscriber_id text NOT NULL,
    service text NOT NULL,
    price_version text NOT NULL,
    unit text NOT NULL CHECK (unit IN ('request', 'MB')),
    quantity bigint NOT NULL,
    amount_microusd bigint NOT NULL,
    source text NOT NULL
);

CREATE INDEX api_costs_of_subscriber ON api_costs (subscriber_id, created_at);
