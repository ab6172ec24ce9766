"""Data sets that are drawn, and the shifts of their distributions."""
