"""What is written down about the system's own work, and for how long it is kept."""
