"""Samples of a user's files, a block at a time: the forms that ``idl predict`` takes."""
