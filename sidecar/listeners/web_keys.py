"""Which entries of HAProxy's maps a Route by host is, and which Route an entry is of. Pure.

haproxy.cfg looks a request up in hosts.map by the longest entry that its key begins with: whether
TLS was ended here (0 or 1), the host in lower case without port and final dot, the path as it came,
and a "?", which no path has. First the host itself, then its wildcard. So a Route with

- no path is ``0host?`` and ``0host/``,
- the path ``/a`` is ``0host/a?`` and ``0host/a/``: the path itself, and what is below it,
- the path ``/a/`` is ``0host/a/`` only,

and with a wildcard the host is ``*.`` and what follows its first label. ``/a/`` takes what is below
``/a`` from it, as with OpenShift's router: of several Routes the one with the longest path has
an entry. In sni.map the whole key is the host or the wildcard, and in ports.map, for a port that
is shared by SNI, ``port/`` and that.

Where we differ from that router: a path below ``/a/`` that goes on with one of !"#%&' is found (its
regular expressions are sorted by bytes, and hide it behind ``/a/``); a Host with several final dots
or with a colon and no port is the host.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple

#: How entries begin for requests in clear, and for those whose TLS was ended here.
CLEAR, ENDED = "0", "1"

#: Ends a key, so that an entry can be for a path itself and not for what is below it.
_END = "?"

_WILDCARD = "*."


class WebKey(NamedTuple):
    """What a Route is found by; make one by `web_key`.

    ``host``: in lower case; of a wildcard, the domain that its one label is put in front of.
    ``path``: "", or it begins with "/".
    """

    host: str
    path: str
    wildcard: bool

    @property
    def name(self) -> str:
        """The host as a client would write it, with ``*`` for any label."""
        return f"{_WILDCARD}{self.host}" if self.wildcard else self.host


def web_key(host: str, path: str = "", *, wildcard: bool = False) -> WebKey:
    """What a Route with this host, path and wildcard policy is found by; the same for Routes that
    match the same requests: ``/`` is every path, and so is none.

    Raises ValueError where no request could be found by it, or no entry written.
    """
    host = host.lower()
    if wildcard:
        _, dot, host = host.partition(".")
        if not dot:
            raise ValueError("a wildcard needs a host with a domain, like www.apps.example.com")
    if not host or _unfit(host) or "/" in host:
        raise ValueError("write a host, like www.example.com")
    if path and not path.startswith("/"):
        raise ValueError('a path begins with "/"')
    if _unfit(path):
        raise ValueError('a path has no blanks, "?" or "#"; percent-encode what is not ASCII')
    return WebKey(host, path if path.strip("/") else "", wildcard)


def hosts_entries(key: WebKey, prefix: str = CLEAR) -> tuple[str, ...]:
    """The keys of hosts.map that find a Route, unless a more specific one has them."""
    start = f"{prefix}{key.name}{key.path}"
    return (start,) if start.endswith("/") else (f"{start}{_END}", f"{start}/")


def request_names(host: str) -> tuple[str, str]:
    """How entries name the host that a client says, and then its wildcard. They are the keys of
    sni.map that find a connection; HAProxy takes the first one that is there."""
    host = host.lower()
    return host, f"{_WILDCARD}{host.partition('.')[2]}"


def request_entries(name: str, path: str, prefixes: Collection[str] = CLEAR) -> Iterator[str]:
    """The keys of hosts.map that find a request by one of its names, the longest first, which
    HAProxy takes. ``path``: as it comes, without its query. ``prefixes``: where it is not known
    whether TLS was ended here, both."""
    rest = f"{path or '/'}{_END}"
    for end in range(len(rest), 0, -1):
        if rest[end - 1] in (_END, "/"):
            yield from (f"{prefix}{name}{rest[:end]}" for prefix in prefixes)


def ended_host(entry: str) -> str:
    """The host, or ``*.domain``, that a key of hosts.map is of, if it is for requests whose TLS was
    ended here, else ""."""
    if not entry.startswith(ENDED):
        return ""
    return entry.removeprefix(ENDED).partition("/")[0].removesuffix(_END)


def key_of_entry(entry: str) -> WebKey | None:
    """What a key of hosts.map is of, or None if it is none of ours. ``0host/a/`` is read as of
    ``/a/``, and may be of ``/a``, too."""
    prefix = ENDED if entry.startswith(ENDED) else CLEAR
    name, slash, rest = entry.removeprefix(prefix).partition("/")
    path = slash + rest
    if not path:
        if not name.endswith(_END):
            return None
        name = name.removesuffix(_END)
    path = path.removesuffix(_END)
    wildcard = name.startswith(_WILDCARD)
    try:
        found = web_key(f"x{name[1:]}" if wildcard else name, path, wildcard=wildcard)
    except ValueError:
        return None
    return found if entry in hosts_entries(found, prefix) else None


def sni_entry(key: WebKey) -> str:
    """The key of sni.map that finds a passthrough Route."""
    return key.name


def port_entry(key: WebKey, port: int) -> str:
    """The key of ports.map that finds one that shares ``port``."""
    return request_port_entry(key.name, port)


def request_port_entry(name: str, port: int) -> str:
    """The same by a name that a connection has."""
    return f"{port}/{name}"


def _unfit(text: str) -> bool:
    """Whether no request has it in its path, or a map could not."""
    return any(not "!" <= char <= "~" or char in "?#" for char in text)
