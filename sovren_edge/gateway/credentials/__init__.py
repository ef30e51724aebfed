"""What external services are called with, sealed at rest and renewed in time."""
