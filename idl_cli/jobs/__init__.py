"""The life of one job's processes: ranks, torchrun, signals, failures, profiling."""
