"""The gateway's tables, in numbered SQL."""
