"""The words that all sides of mailstream speak: records, identity, topics. Imports no side."""
