"""Which endpoint serves a request, and when: decisions without IO, but for `probe`.

Imports nothing of the core, reads no clock and rolls no dice: time and randomness come in as arguments.
"""
