"""A service for sovren-edge that greets people."""
