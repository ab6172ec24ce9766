"""The alternating direction method of multipliers, in one process and in several."""
