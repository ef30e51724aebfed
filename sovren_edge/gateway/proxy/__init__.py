"""One request on its way through the gateway, from its caller's token to its last row."""
