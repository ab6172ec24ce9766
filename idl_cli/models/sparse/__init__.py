"""Implicit models of few non-zeros: matrices in compressed rows, solved in one sweep."""
