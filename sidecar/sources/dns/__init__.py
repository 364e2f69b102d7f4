"""The addresses of external names, followed as DNS changes them."""
