"""What the values say that egress routers are configured with: which port leads where.

Sources: OpenShift's egress-router.sh, egress-dns-proxy.sh and egress-http-proxy.sh
(openshift/images, egress/), and the start script of the generic haproxy image. Owns the grammar of
each line, with what would be right, and the nearest thing to what has no equivalent here. Must not
know where a value stands (`sidecar.importers.egress_sources`), nor what becomes of it
(`sidecar.importers.egress`). Pure.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sidecar.common.errors import ObjectError
from sidecar.common.hostport import canonical_ip
from sidecar.common.text import shown
from sidecar.model.fields import Field

_NUMBER = re.compile(r"[0-9]{1,5}")
_HOST_OR_DOMAIN = re.compile(r"(\*\.)?[A-Za-z0-9][A-Za-z0-9.-]*")
_NETWORK = re.compile(r"[0-9A-Fa-f.:]*[.:][0-9A-Fa-f.:]+(/[0-9]{1,3})?")

_UDP = (
    "stock HAProxy balances TCP only; for UDP keep the egress router, or give the namespace an"
    " EgressIP of the cluster's network"
)
_FALLBACK = (
    "a port of this router has to be known: write a line for each port that is in use; for all"
    " others keep the egress router, or give the namespace an EgressIP of the cluster's network"
)
_PROXY = "an HTTP proxy, which this router is not"


class Destination(NamedTuple):
    """``host``: an IP in its canonical form, or a name of DNS."""

    host: str
    port: int

    @property
    def is_ip(self) -> bool:
        return canonical_ip(self.host) is not None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Leads:
    """``port`` leads to ``destinations``. ``place``: the value and line; ``text``: what stands
    there."""

    place: str
    text: str
    port: int
    destinations: tuple[Destination, ...]


@dataclass(frozen=True, slots=True)
class Skipped:
    """What becomes of nothing, and why."""

    place: str
    text: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {shown(self.text)}: {self.problem}"


Item = Leads | Skipped

#: What parses the words of a line. Raises _Wrong.
_Parse = Callable[[list[str]], tuple[int, Destination]]


class _Wrong(Exception):  # noqa: N818  no error: a reason
    """Why a line is not valid."""


def redirect(value: str, place: str) -> list[Item]:
    """EGRESS_DESTINATION: ``PORT tcp|udp IP [PORT]``, or ``IP`` for all other ports."""
    return _each(value, place, _redirect)


def dns_proxy(value: str, place: str) -> list[Item]:
    """EGRESS_DNS_PROXY_DESTINATION: ``PORT IP|NAME [PORT]``."""
    return _each(value, place, _dns_proxy)


def http_proxy(value: str, place: str) -> list[Item]:
    """EGRESS_HTTP_PROXY_DESTINATION: what may be asked for, first match wins."""
    return [Skipped(*line, _http_proxy(line.text)) for line in _lines(value, place)]


def redirect_rule(rule: Field) -> Item:
    """One of ``spec.redirect.redirectRules`` of an EgressRouter. Raises ObjectError if it is no
    mapping."""
    protocol = rule.at("protocol").value or "TCP"
    port, target = rule.at("port"), rule.at("targetPort")
    ip = rule.at("destinationIP")
    text = f"{port.value} {protocol} {ip.value}"
    if target.value is not None:
        text += f" {target.value}"
    if protocol != "TCP":
        return Skipped(rule.path, text, _protocol(protocol))
    try:
        number = port.port()
        canonical = canonical_ip(ip.text("write an IP address"))
        if canonical is None:
            raise ip.wrong("write an IP address", "is not a valid IP address")
        there = number if target.value in (None, 0) else target.port()
    except ObjectError as exc:
        return Skipped(rule.path, text, str(exc))
    return Leads(rule.path, text, number, (Destination(canonical, there),))


def fallback(ip: object, place: str) -> Skipped:
    """``spec.redirect.fallbackIP`` of an EgressRouter."""
    return Skipped(place, str(ip), _FALLBACK)


def generic(env: Mapping[str, str], place: str = "SERVICE_DEST") -> Item:
    """The generic haproxy image: SERVICE_TCP_PORT leads to each of SERVICE_DEST."""
    text = env.get("SERVICE_DEST", "")
    try:
        return Leads(place, text, *_generic(text, env))
    except _Wrong as exc:
        return Skipped(place, text, str(exc))


def guess(value: str) -> str:
    """The name of the variable whose value this looks like."""
    lines = [line.text.split() for line in _lines(value, "")]
    numbered = [words for words in lines if words and _NUMBER.fullmatch(words[0])]
    if any(len(words) > 1 and words[1] in ("tcp", "udp") for words in numbered):
        return "EGRESS_DESTINATION"
    return "EGRESS_DNS_PROXY_DESTINATION" if numbered else "EGRESS_HTTP_PROXY_DESTINATION"


class _Line(NamedTuple):
    place: str
    text: str


def _lines(value: str, place: str) -> Iterator[_Line]:
    """Those that say something."""
    for number, line in enumerate(value.split("\n"), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield _Line(f"{place}, line {number}", text)


def _each(value: str, place: str, parse: _Parse) -> list[Item]:
    found: list[Item] = []
    taken: dict[int, str] = {}
    for line in _lines(value, place):
        try:
            port, destination = parse(line.text.split())
        except _Wrong as exc:
            found.append(Skipped(*line, str(exc)))
            continue
        if port in taken:
            problem = f"port {port} is that of {taken[port]}; a port leads to one place"
            found.append(Skipped(*line, problem))
            continue
        taken[port] = line.place.rpartition(", ")[2]
        found.append(Leads(*line, port, (destination,)))
    return found


def _generic(text: str, env: Mapping[str, str]) -> tuple[int, tuple[Destination, ...]]:
    if "SERVICE_TCP_PORT" not in env:
        raise _Wrong("SERVICE_TCP_PORT is missing; write the port that clients connect to")
    port = _port(env["SERVICE_TCP_PORT"].strip(), "SERVICE_TCP_PORT: ")
    words = [word for word in re.split(r"[;\s]+", text) if word]
    if not words:
        raise _Wrong("no destination; write addresses or names with ';' between them")
    # As the image does it: where one has a port, each has its own.
    common = env.get("SERVICE_DEST_PORT", "").strip()
    if any(":" in word and canonical_ip(word) is None for word in words):
        common = ""
    return port, tuple(dict.fromkeys(_with_port(word, common) for word in words))


def _redirect(words: list[str]) -> tuple[int, Destination]:
    match words:
        case [ip] if canonical_ip(ip) is not None:
            raise _Wrong(f"all other ports lead there: {_FALLBACK}")
        case [port, "tcp", ip]:
            number = _port(port)
            return number, Destination(_ip(ip), number)
        case [port, "tcp", ip, there]:
            return _port(port), Destination(_ip(ip), _port(there))
        case [port, "udp", _] | [port, "udp", _, _]:
            _port(port)
            raise _Wrong(_UDP)
        case _:
            raise _Wrong("write PORT tcp IP, or PORT tcp IP PORT, like 8080 tcp 203.0.113.26 80")


def _dns_proxy(words: list[str]) -> tuple[int, Destination]:
    match words:
        case [port, host]:
            number = _port(port)
            return number, Destination(_host(host), number)
        case [port, host, there]:
            return _port(port), Destination(_host(host), _port(there))
        case _:
            raise _Wrong(
                "write PORT IP, PORT NAME, or either with another PORT behind it, like"
                " 5432 db.example.com 15432"
            )


def _http_proxy(text: str) -> str:
    if text == "*":
        return f"{_PROXY}: all that is left was allowed; here only what a Route names is"
    if text.startswith("!"):
        return f"{_PROXY}: this was denied; here all is that no Route names, so leave it out"
    if _NETWORK.fullmatch(text):
        return f"{_PROXY}: for each address, and port, that is in use write a Route of its own"
    if not _HOST_OR_DOMAIN.fullmatch(text):
        return "write an IP, a network, a name or *.domain, each with ! before it to deny it, or *"
    if text.startswith("*."):
        return (
            f"{_PROXY}: for TLS write a Route for each name below it, on a port that Routes share"
            " by SNI (pools[].shared_by_sni)"
        )
    return (
        f"{_PROXY}: for TLS write a passthrough Route with spec.host: {text.lower()}, on a port"
        " that Routes share by SNI (pools[].shared_by_sni), to an ExternalName Service"
    )


def _protocol(protocol: object) -> str:
    if protocol in ("UDP", "SCTP"):
        return _UDP.replace("UDP", str(protocol))
    return "protocol: write TCP"


def _port(text: str, what: str = "") -> int:
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise _Wrong(f"{what}{shown(text)} is not a valid port from 1 to 65535")
    return int(text)


def _ip(text: str) -> str:
    ip = canonical_ip(text.removeprefix("[").removesuffix("]"))
    if ip is None:
        raise _Wrong(f"{shown(text)} is not a valid IP address")
    return ip


def _host(text: str) -> str:
    """An IP, or a name as Kubernetes and we take it: absolute, in lower case."""
    bare = text.removeprefix("[").removesuffix("]")
    if ":" in bare or re.fullmatch(r"[0-9.]+", bare):
        return _ip(text)
    try:
        name = Field("", text.lower()).host_name()
    except ObjectError:
        raise _Wrong(f"{shown(text)} is neither an IP address nor a valid name") from None
    if "." not in name:
        raise _Wrong(f"{shown(text)} has no domain: write the whole name, like db.example.com")
    return name


def _with_port(word: str, common: str) -> Destination:
    """``common``: the port of those that have none of their own; "" if each has one."""
    host, colon, port = word.rpartition(":")
    if canonical_ip(word) is not None or not colon:
        host, port = word, common
    if not port:
        raise _Wrong(
            f"{shown(word)} has no port: write it behind, like 192.0.2.7:5432, or for all of them"
            " in SERVICE_DEST_PORT"
        )
    return Destination(_host(host), _port(port))
