"""Kinds of listener: what a Route may wish for on each. They do not know each other. Pure."""
