"""From states and a solver to an implicit model."""
