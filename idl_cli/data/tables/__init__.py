"""Samples and targets from a user's own arrays."""
