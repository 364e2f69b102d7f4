"""From desired and observed to operations, and when. Pure."""
