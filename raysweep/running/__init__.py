"""A sweep runs: Ray Tune schedules packs, Ray Train trains the groups, signals end it."""
