"""Business services, a package each, plugged into ports by the configuration.

A service knows `sovren_edge.handler` and nothing else of ours, and no service knows another.
"""
