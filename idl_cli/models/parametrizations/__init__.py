"""How A is made of parameters and kept in its set: one way a file."""
