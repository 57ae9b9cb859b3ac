"""The command ``mailstream``: one file per group of verbs; each imports its side when it is called."""
