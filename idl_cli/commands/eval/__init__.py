"""``idl eval``: the model of a run measured, on its own or other data."""
