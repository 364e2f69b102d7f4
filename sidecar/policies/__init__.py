"""What a Route may wish for its connections by annotation: one file for each, and the registry."""
