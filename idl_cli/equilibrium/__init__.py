"""Equilibria x = φ(Ax + Bu): activations, operators, constraints, one loop, gradient."""
