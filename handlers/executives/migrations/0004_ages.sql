-- What is old is found without reading everything.
CREATE INDEX executive_activity_by_age ON executive_activity (happened_at);
CREATE INDEX executive_usage_by_age ON executive_usage (answered_at);
