"""What became of each Route and port, and who is told."""
