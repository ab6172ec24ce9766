"""The gradient trainer."""
