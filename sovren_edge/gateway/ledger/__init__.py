"""The record of requests: durable before they are dialled, whatever PostgreSQL does."""
