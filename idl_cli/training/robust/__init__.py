"""Training against perturbations of the inputs."""
