"""The benchmark: `python -m tests.bench` sets each case up for real and compares ratios."""
