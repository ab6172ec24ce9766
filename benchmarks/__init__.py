"""Speed and accuracy beside the peers: `python -m benchmarks`."""
