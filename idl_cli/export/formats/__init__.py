"""The deployable forms, one file each; a new one is a subclass of ``deployment.Format``."""
