"""Data sets: fetch and verify, parse, split, normalise, batch."""
