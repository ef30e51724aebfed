-- What is old is found without reading everything: rows lie in the order in which they came.
CREATE INDEX executive_activity_by_age ON executive_activity USING brin (happened_at);
CREATE INDEX executive_usage_by_age ON executive_usage USING brin (answered_at);
