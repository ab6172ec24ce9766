"""Layers whose places share their weights: one small problem an output channel."""
