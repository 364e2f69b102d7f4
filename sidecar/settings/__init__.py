"""The settings: their shape, defaults, reasons and checks."""
