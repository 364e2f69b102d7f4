"""What every package may use: errors, text, times, files, logs. Knows nothing of ours."""
