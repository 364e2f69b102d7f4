"""The ports of the Service that a load balancer follows: which are ours, and as they should be.

An entry is ours by its name, ``tcp-PORT``; all others stay as they are. Pure.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

_OURS = re.compile(r"tcp-([0-9]{1,5})")

PortEntry = Mapping[str, Any]


def published(
    entries: Sequence[PortEntry], opened: Collection[int], owned: Collection[int]
) -> list[PortEntry] | None:
    """``spec.ports`` as it should be, or None if it is so already.

    A port enters when it is open, and leaves when no Route owns it any more: one that scales to
    zero keeps its listener and its nodePort. A Service must have a port, so the lowest of ours
    stays when none should be left; HAProxy refuses there.
    """
    ours = {port: entry for entry in entries if (port := our_port(entry)) is not None}
    others = [entry for entry in entries if our_port(entry) is None]
    # One port number cannot stand twice; who wrote it by hand has published it.
    taken = {entry.get("port") for entry in others if entry.get("protocol", "TCP") == "TCP"}
    wanted = (set(opened) | (ours.keys() & set(owned))) - taken
    if not wanted and not others and ours:
        wanted = {min(ours)}
    wished = [*others, *(ours.get(port) or _entry(port) for port in sorted(wanted))]
    # The order says nothing, and the API server keeps it.
    same = len(wished) == len(entries) and all(entry in entries for entry in wished)
    return None if same or not wished else wished


def our_port(entry: PortEntry) -> int | None:
    """The port of an entry of ours; None for somebody else's."""
    found = _OURS.fullmatch(str(entry.get("name", "")))
    port = int(found[1]) if found else None
    return port if port == entry.get("port") and entry.get("protocol", "TCP") == "TCP" else None


def _entry(port: int) -> dict[str, Any]:
    return {"name": f"tcp-{port}", "port": port, "targetPort": port, "protocol": "TCP"}
