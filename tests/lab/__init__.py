"""The lab: real processes, engines and managers for the tests, which reap what they start."""
