-- The processes that have requests in hand. Each holds an advisory lock on its name for as long as its session lives.
CREATE TABLE owners (
    owner text PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- All that it had acknowledged at this moment is in api_requests.
    clean_moment bigint NOT NULL DEFAULT 0,
    -- When its last row was known to be in api_requests; null while it lives, or its journal has not been replayed.
    closed_at timestamptz
);

-- Moments in their order, whatever becomes of the clock.
CREATE SEQUENCE owner_moments;
