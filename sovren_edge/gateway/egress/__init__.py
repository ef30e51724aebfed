"""The way out: which URLs and addresses may be called, and how a request is sent there."""
