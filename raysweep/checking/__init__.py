"""What is found in a sweep before it costs anything: its task is tried in a child process."""
