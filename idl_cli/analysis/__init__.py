"""Plots and comparison of finished runs."""
