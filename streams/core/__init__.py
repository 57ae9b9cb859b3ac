"""Pure decisions: told the time, handed their randomness; no I/O, no Faust, no Kafka."""
