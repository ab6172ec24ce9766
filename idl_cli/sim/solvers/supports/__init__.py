"""Supports: which weights of a row may differ from zero, when their number is limited."""
