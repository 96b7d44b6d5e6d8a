"""What a sweep puts to the test, answered: held, did not hold, or can't be told."""
