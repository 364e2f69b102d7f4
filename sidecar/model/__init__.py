"""The values that all packages speak of: objects of the API, the pool, verdicts. Pure."""
