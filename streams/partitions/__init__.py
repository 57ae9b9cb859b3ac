"""What is done when partitions come and go."""
