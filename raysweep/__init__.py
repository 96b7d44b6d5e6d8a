"""Plan, run and record a sweep; `analysis` reads what it leaves behind."""
