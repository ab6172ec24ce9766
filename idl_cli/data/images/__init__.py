"""Image data sets, and the augmentation of images."""
