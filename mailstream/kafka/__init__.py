"""Kafka without Faust: one producer, group-less tails, topic checks."""
