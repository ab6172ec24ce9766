"""Where a run's figures go: always into ``metrics.jsonl``, and where else the user wants them."""

from idl_cli.loggers.base import JsonlLogger, MetricLogger, RunFacts
from idl_cli.loggers.run_logger import RunLogger, open_logger

__all__ = ["JsonlLogger", "MetricLogger", "RunFacts", "RunLogger", "open_logger"]
