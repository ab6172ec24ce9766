"""Models whose states are feature maps."""
