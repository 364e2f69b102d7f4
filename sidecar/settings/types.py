"""The types of the settings' values: each with its validation, and what would be valid.

`sidecar.settings.schema` owns the keys, and what they mean together.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from sidecar.common.durations import DURATION_RULE, parse_duration
from sidecar.common.errors import ObjectError
from sidecar.common.hostport import canonical_ip, is_unix_socket, split_host_port
from sidecar.common.text import shown
from sidecar.model import fields
from sidecar.model.pool import Address, format_ports

#: HAProxy binds a unix socket as PATH.PID.tmp first, and sun_path has 108 bytes.
UNIX_PATH_MAX_BYTES = 95

#: Of the file systems, less what a file has in addition while it is written.
_FILE_NAME_MAX_BYTES = 240
_FILE_PATH_MAX_BYTES = 4000

#: Of a regular expression: lines of haproxy.cfg have 2,048 bytes, and an escape may double it.
_REGEX_MAX = 500

#: HAProxy counts descriptors, two for each connection, in 32 bits.
_COUNT_MAX = 10**9

# All that can begin a line or end a text, here or in what reads haproxy.cfg, a log or a header;
# a tab may be part of a file's name.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Where a value is in the settings: keys, and numbers of a list's items.
Location = tuple[int | str, ...]

T = TypeVar("T")


def _duration(value: object) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    # 0 is the one number that is the same in all units.
    if value == 0 and not isinstance(value, bool):
        return 0.0
    raise ValueError(DURATION_RULE)


def _at_least_1ms(seconds: float) -> float:
    if seconds < 0.001:
        raise ValueError("must be at least 1ms")
    return seconds


def _at_least_1s(seconds: float) -> float:
    if seconds < 1.0:
        raise ValueError("must be at least 1s")
    return seconds


#: A time as HAProxy writes it; seconds here.
Duration = Annotated[float, BeforeValidator(_duration)]
PositiveDuration = Annotated[Duration, AfterValidator(_at_least_1ms)]
AtLeast1s = AfterValidator(_at_least_1s)

#: Part of a name in haproxy.cfg.
PlainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=63)]

#: Strict, or YAML's `yes` would be 1 and "16" a number.
Count = Annotated[int, Field(strict=True, ge=1, le=_COUNT_MAX)]


def control_characters(data: object, at: Location = ()) -> Iterator[tuple[Location, str]]:
    """Where in ``data``, as YAML gives it, is a text with a control character, and that text."""
    if isinstance(data, str):
        if _CONTROL.search(data):
            yield at, data
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield from control_characters(value, (*at, key))
    elif isinstance(data, Sequence):
        for number, value in enumerate(data):
            yield from control_characters(value, (*at, number))


def _filled(items: tuple[T, ...]) -> tuple[T, ...]:
    if not items:
        raise ValueError("must not be empty")
    return items


#: Of a list: it has something in it.
Filled = AfterValidator(_filled)


def _path(value: object) -> object:
    if not isinstance(value, str) or not value:
        raise ValueError("write the path of a file or folder")
    path = Path(value).absolute()
    if any(len(part.encode(errors="replace")) > _FILE_NAME_MAX_BYTES for part in path.parts):
        raise ValueError(f"a name in it has more than {_FILE_NAME_MAX_BYTES} bytes; shorten it")
    if len(str(path).encode(errors="replace")) > _FILE_PATH_MAX_BYTES:
        raise ValueError(f"the path has more than {_FILE_PATH_MAX_BYTES} bytes; shorten it")
    return value


FilePath = Annotated[Path, BeforeValidator(_path)]


def _no_scope(value: str) -> None:
    if "%" in value or re.match(r"\[?fe[89ab][0-9a-f]:", value.lower()):
        raise ValueError(
            "HAProxy does not support scope IDs; write an address that is not link-local, or ::"
        )


def _bind_ip(value: str) -> str:
    _no_scope(value)
    ip = canonical_ip(value)
    if ip is None:
        raise ValueError("write an IP address, like 127.0.0.1, 0.0.0.0 or ::")
    if ipaddress.ip_address(ip).is_multicast:
        raise ValueError("is a multicast address; write one of this machine's, or 0.0.0.0 or ::")
    return ip


def _source_ip(value: str) -> str:
    _no_scope(value)
    ip = canonical_ip(value)
    if ip is None:
        raise ValueError("write an IP address of this machine, like 192.0.2.7 or 2001:db8::7")
    address = ipaddress.ip_address(ip)
    if address.is_multicast or address.is_unspecified:
        kind = "a multicast" if address.is_multicast else "the unspecified"
        raise ValueError(f"is {kind} address; write one of this machine's, or leave the key out")
    return ip


#: Where connections to servers come from.
SourceIP = Annotated[str, AfterValidator(_source_ip)]


def _distinct(items: tuple[str, ...]) -> tuple[str, ...]:
    if twice := {item for item in items if items.count(item) > 1}:
        raise ValueError(f"repeats {', '.join(sorted(twice))}; list each address once")
    return items


#: The IP addresses that ports listen on, each in its canonical form.
BindAddresses = Annotated[
    tuple[Annotated[str, AfterValidator(_bind_ip)], ...], AfterValidator(_distinct), Filled
]


def _network(value: object) -> object:
    try:
        # Not of a number, which would be an address too: 10 is 0.0.0.10.
        return ipaddress.ip_network(value if isinstance(value, str) else repr(value))
    except ValueError as exc:
        raise ValueError(f"write a network, like 10.0.0.0/8 or fe80::/10 ({exc})") from None


Network = Annotated[IPNetwork, BeforeValidator(_network)]


def _listen(value: str) -> str:
    split_host_port(value)
    _no_scope(value)
    return value


#: ``host:port`` to listen at.
ListenAddress = Annotated[str, AfterValidator(_listen)]


def _metrics_listen(value: str) -> str:
    # HAProxy does not start on a name that cannot be resolved at that moment.
    if canonical_ip(split_host_port(_listen(value))[0]) is None:
        raise ValueError("write an IP with a port, like 127.0.0.1:8406 or [::1]:8406")
    return value


#: Where HAProxy listens: an IP with a port.
MetricsAddress = Annotated[str, AfterValidator(_metrics_listen)]


def _shared_bind(value: str) -> str:
    host, port = split_host_port(value)
    return str(Address(_bind_ip(host), port))


#: Where a listener that Routes share listens: IPs with ports, each in its canonical form.
SharedBind = Annotated[
    tuple[Annotated[str, AfterValidator(_shared_bind)], ...], AfterValidator(_distinct), Filled
]


def _dns_server(value: str) -> str:
    try:
        ipaddress.ip_address(split_host_port(value)[0])
    except ValueError:
        raise ValueError("write an IP with a port, like 10.0.0.10:53 or [fd00::a]:53") from None
    return value


DNSServer = Annotated[str, AfterValidator(_dns_server)]


def _socket(value: str) -> str:
    if not value:
        raise ValueError("write the path of a unix socket, or host:port")
    if not is_unix_socket(value):
        _listen(value)
    elif len(str(Path(value).absolute()).encode()) > UNIX_PATH_MAX_BYTES:
        raise ValueError(
            f"the absolute path {Path(value).absolute()} is longer than the"
            f" {UNIX_PATH_MAX_BYTES} bytes that HAProxy can bind; choose a shorter one"
        )
    return value


#: Where the Runtime API is: the path of a unix socket, or ``host:port``.
RuntimeAddress = Annotated[str, AfterValidator(_socket)]


def _namespace(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", value):
        raise ValueError("write the name of a namespace: lower-case letters, digits and '-'")
    return value


def _namespace_or_all(value: str) -> str:
    return value if value == "*" else _namespace(value)


def _annotation(value: str) -> str:
    if len(value) > 316 or not re.fullmatch(rf"([-a-z0-9.]+/)?{_LABEL_NAME}", value):
        raise ValueError("write the key of an annotation, like example.com/port")
    return value


_DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_DNS_LABEL}(\.{_DNS_LABEL})*")


def _is_domain(text: str) -> bool:
    return len(text) <= 253 and _DOMAIN.fullmatch(text) is not None


def _domain(value: str) -> str:
    if not _is_domain(value):
        raise ValueError("write a domain, like apps.example.com: lower-case letters, digits, '-'")
    return value


def _domain_or_none(value: str) -> str:
    return value and _domain(value)


def _cookie_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,63}", value):
        raise ValueError("write the name of a cookie: letters, digits, '_' and '-', 63 at most")
    return value


def _hostname_template(value: str) -> str:
    filled = value.replace("${name}", "n").replace("${namespace}", "n")
    # Without the name, many Routes would have one host, and the oldest would serve it alone.
    if value and not ("${name}" in value and _is_domain(filled)):
        raise ValueError(
            "write a host name with ${name} in it, like ${name}-${namespace}.apps.example.com"
        )
    return value


def _object_name(value: str) -> str:
    try:
        return fields.Field("", value).name()
    except ObjectError as exc:
        raise ValueError(exc.problem) from None


def _namespace_and_name(value: str) -> str:
    namespace, slash, name = value.partition("/")
    if not slash:
        raise ValueError("write namespace/name, like ingress/tcp-router")
    return f"{_namespace(namespace)}/{_object_name(name)}"


Namespace = Annotated[str, AfterValidator(_namespace)]
#: A namespace, or ``*`` for all.
NamespaceOrAll = Annotated[str, AfterValidator(_namespace_or_all)]
AnnotationKey = Annotated[str, AfterValidator(_annotation)]
Domain = Annotated[str, AfterValidator(_domain)]
#: A domain, or "".
DomainOrNone = Annotated[str, AfterValidator(_domain_or_none)]
#: The characters that OpenShift's router allows.


def _regex(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as exc:
        raise ValueError(f"not a valid regular expression: {exc}") from None
    if len(value) > _REGEX_MAX:
        raise ValueError(f"{len(value)} characters; HAProxy's lines take {_REGEX_MAX} of them")
    return value


#: One that HAProxy looks for anywhere in a text; "" for none.
RegexOrNone = Annotated[str, AfterValidator(_regex)]
CookieName = Annotated[str, AfterValidator(_cookie_name)]
#: A host with ``${name}`` and ``${namespace}`` of a Route to be filled in, or "".
HostnameTemplate = Annotated[str, AfterValidator(_hostname_template)]
ObjectName = Annotated[str, AfterValidator(_object_name)]
#: ``namespace/name``
NamespacedName = Annotated[str, AfterValidator(_namespace_and_name)]


_LABEL_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL = r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?"
_LABEL_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_LABEL_TERM = (
    rf"(!?{_LABEL}"
    rf"|{_LABEL}\s*(=|==|!=)\s*{_LABEL_VALUE}"
    rf"|{_LABEL}\s+(not)?in\s+\(\s*{_LABEL_VALUE}(\s*,\s*{_LABEL_VALUE})*\s*\))"
)
_FIELD_TERM = r"[A-Za-z0-9.]+\s*(=|==|!=)\s*[-A-Za-z0-9_.:/*]*"


def _label_selector(value: str) -> str:
    if value and not re.fullmatch(rf"\s*{_LABEL_TERM}\s*(,\s*{_LABEL_TERM}\s*)*", value):
        raise ValueError("write a label selector, like tier=edge,shard in (a, b),!internal")
    return value


def _field_selector(value: str) -> str:
    if value and not re.fullmatch(rf"\s*{_FIELD_TERM}\s*(,\s*{_FIELD_TERM}\s*)*", value):
        raise ValueError("write a field selector, like metadata.namespace!=test")
    return value


LabelSelector = Annotated[str, AfterValidator(_label_selector)]
FieldSelector = Annotated[str, AfterValidator(_field_selector)]


def _ports(value: object) -> object:
    """``["13306", "30000-30099"]`` as ascending numbers, each once."""
    items = value if isinstance(value, list) else [value]
    seen: set[int] = set()
    for item in items:
        found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", str(item).strip())
        if isinstance(item, bool) or not found:
            raise ValueError(
                f'{shown(item)} is not a valid port; write "13306" or a range "30000-30099"'
            )
        low, high = int(found[1]), int(found[2] or found[1])
        if not 1 <= low <= high <= 65535:
            fault = "runs backwards" if low > high else "is outside 1-65535"
            raise ValueError(f'{item!r} {fault}; write "13306" or a range "30000-30099"')
        twice = seen.intersection(range(low, high + 1))
        if twice:
            raise ValueError(f"{item!r} repeats {format_ports(twice)}; list each port once")
        seen.update(range(low, high + 1))
    return tuple(sorted(seen))


#: Numbers and ranges as people write them; ascending numbers here.
Ports = Annotated[tuple[int, ...], BeforeValidator(_ports), Filled]
