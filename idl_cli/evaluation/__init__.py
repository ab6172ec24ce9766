"""Task metrics and the evaluation loop that training, sim and analysis share."""
