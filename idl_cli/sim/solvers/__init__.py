"""Solvers of the row problem, one algorithm a file."""
