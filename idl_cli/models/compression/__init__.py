"""Smaller implicit models: exact reductions, and others with a proven bound on the outputs."""
