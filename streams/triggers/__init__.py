"""Domain events of other services become requests."""
