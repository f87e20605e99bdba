"""The cases: each is a function from a `Bench` to the rows that it measured."""
