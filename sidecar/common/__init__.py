"""For use by every package: errors, text, times, files, logs. Knows nothing of the others."""
