"""Templates: the folder of them, what is filled in, and the process that does it."""
