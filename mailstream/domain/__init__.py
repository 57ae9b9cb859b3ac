"""The words of the system and their rules: records, states, addresses, ids. No I/O, no time of its own."""
