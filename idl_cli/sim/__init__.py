"""State-driven implicit modeling: states, statistics, row problem, solvers, certificate, model."""
