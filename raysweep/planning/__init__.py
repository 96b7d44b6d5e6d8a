"""Everything that is known before anything starts: trials, packs, budgets."""
