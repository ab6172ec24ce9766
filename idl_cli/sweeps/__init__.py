"""Many jobs from one request: planned, launched, resumed, reported."""
