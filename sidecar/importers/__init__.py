"""Conversion of other routers' configuration to Routes. Pure."""
