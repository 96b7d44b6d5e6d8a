"""What the models of a task are: looked at without computing anything, and tried."""
