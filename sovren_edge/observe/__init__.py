"""Counters, Prometheus text and logs."""
