"""The methods of iteration, one a file."""
