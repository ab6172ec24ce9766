"""The equilibria of a recurrent network, step by step in time."""
