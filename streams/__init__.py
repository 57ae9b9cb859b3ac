"""The worker: takes requests, paces, claims, calls the provider, and keeps the statuses."""
