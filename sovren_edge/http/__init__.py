"""HTTP/1.1 without IO: message heads, framing, header rules."""
