"""The provider side of the worker: the port, the payload, and SendGrid's HTTP call."""
