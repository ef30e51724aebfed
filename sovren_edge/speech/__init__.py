"""What is special about speech: reading a request for it."""
