"""Lower bounds of the margins over all inputs of a region, cheapest first."""
