"""What is proven of a trained model: a unique equilibrium, Lipschitz bounds, certified radii."""
