"""Labels, the reasons for them, and what to turn."""
