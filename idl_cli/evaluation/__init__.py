"""Task metrics and the evaluation loop that training, sim and analysis share."""

from idl_cli.evaluation.loop import evaluate, predict

__all__ = ["evaluate", "predict"]
