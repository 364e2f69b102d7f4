"""The loop's parts: compare, apply, read back, remember."""
