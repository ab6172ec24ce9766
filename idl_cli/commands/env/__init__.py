"""``idl env``: what to paste in a bug report, and a self-test."""
