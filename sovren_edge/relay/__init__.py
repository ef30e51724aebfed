"""The balancer's data path: downstream, exchange, fetch, upstream."""
