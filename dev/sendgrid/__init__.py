"""A SendGrid for development and tests: its checks and answers, an inbox, a ledger, faults to order, signed webhooks."""
