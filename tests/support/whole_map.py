"""hosts.map of several Routes, as all together would have it."""

from collections.abc import Iterable, Mapping

from sidecar.listeners.web_keys import CLEAR, WebKey, hosts_entries


def holders(keys: Iterable[WebKey], prefix: str = CLEAR) -> Mapping[str, WebKey]:
    """Entry -> whose of ``keys`` it is."""
    found: dict[str, WebKey] = {}
    # /a/ after /a, whose entry for what is below it is the same.
    for key in sorted(keys, key=lambda key: len(key.path)):
        found.update(dict.fromkeys(hosts_entries(key, prefix), key))
    return found
