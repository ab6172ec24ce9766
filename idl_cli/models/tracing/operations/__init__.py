"""What torch's operations do to expressions, one family a file."""
