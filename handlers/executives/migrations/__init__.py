"""The tables of executives, as numbered SQL."""
