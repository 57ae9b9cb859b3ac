"""The statuses of the emails of the owned partitions."""
