"""The gradient of an equilibrium: exact, approximate, and differentiated again."""
