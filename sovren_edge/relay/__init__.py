"""The balancer's data path: downstream, exchange, upstream."""
