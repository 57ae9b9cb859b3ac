"""The provider's webhook."""
