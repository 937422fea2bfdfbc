"""What a worker does with what comes from the broker, besides taking it from its queue."""
