"""What a worker does with events besides taking them from their queue."""
