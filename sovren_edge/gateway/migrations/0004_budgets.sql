-- That a part of a budget is spent is told once for each period, by whichever process writes the row.
CREATE TABLE budget_alerts (
    subscriber_id text NOT NULL,
    period text NOT NULL CHECK (period IN ('day', 'month')),
    period_start timestamptz NOT NULL,
    threshold_percent integer NOT NULL,
    budget_microusd bigint NOT NULL,
    spent_microusd bigint NOT NULL,
    told_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (subscriber_id, period, period_start, threshold_percent)
);

-- What a subscriber has spent is read from the index alone.
DROP INDEX api_costs_of_subscriber;
CREATE INDEX api_costs_of_subscriber ON api_costs (subscriber_id, created_at) INCLUDE (amount_microusd, service);
