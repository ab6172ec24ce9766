"""``idl train``: a model trained by gradient."""
