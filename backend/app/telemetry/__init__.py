"""What the processes show of themselves: logs, metrics, traces."""
