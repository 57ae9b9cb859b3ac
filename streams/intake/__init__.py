"""What comes in: requests, controls, and the events of the provider."""
