"""Arrays in, numbers out: statistics that know nothing of curves, trials or sweeps."""
