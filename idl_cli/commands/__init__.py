"""One small file a sub-command: checked config in, run directory out."""
