"""What is written down about the system's own work, for how long it is kept, and what takes up lost work."""
