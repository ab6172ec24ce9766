"""A trained network's states: found, laid out, rescaled, recorded."""
