"""The settings: their shape, defaults, reasons and validation."""
