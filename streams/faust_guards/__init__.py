"""What makes Faust 0.15.3 safe here. docs/faust.md has one row for each guard: what stock does, issue, test, and when it goes.

The guards override private parts of Faust and aiokafka: hence the exact pins of faust-streaming, mode-streaming and
aiokafka. `tests/unit/streams/faust_guards/test_docs.py` holds the table against this package.
"""
