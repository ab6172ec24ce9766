"""Predictions as files, a block at a time: the forms that ``idl predict`` writes."""
