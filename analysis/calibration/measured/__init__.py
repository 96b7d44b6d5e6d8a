"""Programs that print the tables of docs/method: the method on data whose truth is known."""
