"""How what is long is shortened for a person: nothing that users send fills a message. Pure."""

from collections.abc import Sequence


def cut(text: str, most: int) -> str:
    """The beginning of ``text``, ``most`` characters of it."""
    return text if len(text) <= most else text[: most - 1] + "…"


def few(items: Sequence[str], most: int, joint: str = ", ") -> str:
    """The first ``most`` of ``items``, and how many more there are."""
    more = [f"and {len(items) - most} more"] if len(items) > most else []
    return joint.join([*items[:most], *more])
