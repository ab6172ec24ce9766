"""``idl sim``: an implicit model from the states of a trained network."""
