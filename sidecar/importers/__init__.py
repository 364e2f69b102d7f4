"""Routes made from other routers' configuration. Pure."""
