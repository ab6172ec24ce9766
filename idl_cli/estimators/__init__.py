"""scikit-learn's door: implicit models and the row solver with fit and predict."""
