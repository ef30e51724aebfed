"""What requests cost, and what subscribers may spend."""
