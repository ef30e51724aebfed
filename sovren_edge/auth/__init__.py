"""Owns who somebody is: trusted by address, or known by a token."""
