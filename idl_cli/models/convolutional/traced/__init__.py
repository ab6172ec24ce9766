"""From any network that is a graph of convolutions, poolings and sums to its kernels."""
