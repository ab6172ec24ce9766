"""Schemas and checks of every config group; this package imports neither torch nor cvxpy."""
