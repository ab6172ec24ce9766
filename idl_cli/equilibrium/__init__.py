"""Equilibria x = φ(Ax + Bu): activations, operators, constraints, one driver, gradient."""
