"""The files of the inbox page."""
