"""What the API knows of emails: it follows the log."""
