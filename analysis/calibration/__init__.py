"""How far the method can be trusted: simulated truth, cut-offs, measured error rates."""
