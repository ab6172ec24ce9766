"""A trained model outside its run: predictions on files of one's own, and deployable forms."""
