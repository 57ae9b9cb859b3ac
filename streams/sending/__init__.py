"""From the turn of an email to its outcome."""
