"""A limit on non-zeros for the whole model: allocation, layers in order, refinement."""
