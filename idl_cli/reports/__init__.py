"""The pages that runs and sweeps leave behind."""
