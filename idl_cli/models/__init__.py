"""Implicit models and the explicit networks beside them."""
