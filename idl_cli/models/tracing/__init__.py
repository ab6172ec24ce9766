"""A network traced operation by operation into an exact sparse implicit model."""
