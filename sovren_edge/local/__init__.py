"""What --local runs beside the edge, each a process of its own."""
