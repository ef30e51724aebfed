"""The way out: one request of a subscriber to one external API, judged, counted and recorded."""
