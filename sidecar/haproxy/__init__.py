"""HAProxy as it is: its Runtime API, its state, its configuration file, its process."""
