"""From checked settings to models, data, trainers and figures."""
