"""Ages and numbers at a glance. Pure."""


def age(seconds: float) -> str:
    """``3d 4h``, ``5m 10s``: the two largest units."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= size or (unit == "s" and not parts):
            parts.append(f"{left // size}{unit}")
            left %= size
    return " ".join(parts[:2])


def amount(number: int | None) -> str:
    """``999``, ``1.2k``, ``34M``: bytes or counts at a glance; ``-`` where nobody knows."""
    if number is None:
        return "-"
    size = float(number)
    for unit in ("", "k", "M", "G"):
        if size < 999.5:
            return f"{size:.1f}{unit}" if unit and size < 9.95 else f"{size:.0f}{unit}"
        size /= 1000
    return f"{size:.1f}T"
