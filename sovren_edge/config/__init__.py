"""config.toml: its model, its faults, the plan that a node makes of it."""
