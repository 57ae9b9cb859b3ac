"""The checker of histories: one module for each kind of promise. See README.md beside this file."""
