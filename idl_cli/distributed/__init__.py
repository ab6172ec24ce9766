"""Several processes at one job: launching them, joining them, sharing work out, failing together.

Knows torch.distributed and nothing of the subject. ``Group`` is what the rooms above see: with
``Group.single`` they run unchanged in one process.
"""
