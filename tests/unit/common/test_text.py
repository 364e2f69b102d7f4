"""What a message shows of what users send: enough to find it, never more, never a second line."""

import dataclasses
import errno
from collections.abc import Callable

import pytest
from core import DENIED, POOL
from hypothesis import given
from hypothesis import strategies as st
from parts import routing_for
from stand import changes, route, service, slice_

from sidecar.common.documents import DocumentError, read_entries
from sidecar.common.text import counted, cut, few, one_line, reason_of, shown
from sidecar.listeners.tcp import TCPPorts
from sidecar.model.objects import EndpointSet, Route, RouteTarget, Service, ServicePort

#: What a message may be at most where names are short, in characters.
MESSAGE_MAX = 1000

LONG = "\n" + "x" * 10_000
NAMES = [f"s{number}" for number in range(500)]

Objects = tuple[Route | Service | EndpointSet, ...]


def _ports(name: Callable[[int], str]) -> list[ServicePort]:
    return [ServicePort(name(number), number, "TCP", "") for number in range(1, 500)]


#: What is too long -> a Route with it, and what else is there.
TOO_LONG: dict[str, Objects] = {
    "termination": (route(termination=LONG),),
    "port": (route(port=LONG),),
    "drain deadline": (route(drain_deadline=LONG), service(), slice_("web", ["10.0.0.1"])),
    "target port": (route(target_port=LONG), service(), slice_("web", ["10.0.0.1"])),
    "target port of UDP": (
        route(target_port=LONG),
        service(),
        slice_("web", ["10.0.0.1"], port_name=LONG, protocol="UDP"),
    ),
    "name of an endpoint port": (route(target_port="a"), service(), slice_(port_name=LONG)),
    "names of endpoint ports": (
        route(target_port="a"),
        service(),
        *(slice_(port_name=name, name=name) for name in NAMES),
    ),
    "names of a Service's ports": (route(), service("web", *_ports(lambda n: f"{LONG}{n}"))),
    "a Service's ports": (route(), service("web", *_ports(lambda _: ""))),
    "Services without endpoints": (
        route(also=[(name, 1) for name in NAMES]),
        service(),
        *(service(name) for name in NAMES),
    ),
    "Services that are not there": (
        route(also=[(name, 1) for name in NAMES]),
        service(),
        slice_("web", ["10.0.0.1"]),
    ),
    "kind of a target": (dataclasses.replace(route(), targets=(RouteTarget(LONG, "web", 1),)),),
    "endpoint": (route(), service(), slice_("web", [LONG])),
    "endpoints": (route(), service(), slice_("web", [f"{LONG}{name}" for name in NAMES])),
}


@pytest.mark.parametrize("objects", TOO_LONG.values(), ids=TOO_LONG.keys())
def test_what_is_said_of_a_route_fits_into_a_line(objects: Objects) -> None:
    routing = routing_for(TCPPorts(POOL), denied=DENIED)
    routing.apply(changes(*objects))
    (verdict,) = routing.verdicts()
    assert verdict.message
    assert len(verdict.message) <= MESSAGE_MAX
    assert verdict.message.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        f"a: *{'x' * 10_000}",
        f"a: !{'x' * 10_000} b",
        f"a: !{'x' * 10_000}!y b",
        f"? {'x' * 10_000}\n: 1\n? {'x' * 10_000}\n: 2",
        "a: b: " + "x" * 10_000,
        f"%TAG !{'x' * 10_000}! !\n%TAG !{'x' * 10_000}! !\n---\na: 1",
    ],
)
def test_what_is_said_of_a_file_fits_into_a_line(text: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_entries(text.encode(), is_json=False)
    assert len(str(caught.value)) < MESSAGE_MAX
    assert str(caught.value).isprintable()


@given(st.text(), st.integers(1, 30))
def test_what_is_cut_is_the_beginning(text: str, most: int) -> None:
    shown = cut(text, most)
    assert len(shown) <= most
    assert shown == text or (shown[-1] == "…" and text.startswith(shown[:-1]))


@given(st.lists(st.text("ab", min_size=1)), st.integers(1, 5))
def test_what_is_left_out_is_counted(items: list[str], most: int) -> None:
    shown = few(items, most).split(", ") if items else []
    assert shown[:most] == items[:most]
    assert shown[most:] == ([f"and {len(items) - most} more"] if len(items) > most else [])


@given(st.text(), st.integers(1, 30))
def test_what_others_say_is_a_line(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most
    assert line.isprintable()
    assert one_line(line, most) == line


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "Permission denied"),
        (TimeoutError("timed out"), "timed out"),
        (OSError(), "OSError"),
        (ValueError("not a number"), "not a number"),
        (ValueError(), "ValueError"),
    ],
)
def test_an_error_is_told_without_its_number(error: Exception, words: str) -> None:
    assert reason_of(error) == words


def test_one_is_no_plural() -> None:
    assert [counted(count, "endpoint") for count in (0, 1, 2)] == [
        "0 endpoints",
        "1 endpoint",
        "2 endpoints",
    ]


@pytest.mark.parametrize("wrap", [lambda text: text, lambda text: [text], lambda text: {"a": text}])
@pytest.mark.parametrize("before", ["", "x" * 500])
def test_pem_is_never_shown(wrap: Callable[[str], object], before: str) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nmarked\n-----END PRIVATE KEY-----\nmarked"
    assert "marked" not in shown(wrap(pem))
    assert "marked" not in shown(before + pem)
    assert shown("-----BEGIN") == "(PEM, not shown)"
