"""The outcome for each Route and port, and where it is reported."""
