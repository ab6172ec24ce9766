"""The row problem, its certificate, and the loop that solves and judges it."""
