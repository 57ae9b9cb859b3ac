"""Tell other services of status changes: Standard Webhooks, one consumer group for each endpoint."""
