"""Questions over a whole sweep: which knob did what, why curves move, which one is best."""
