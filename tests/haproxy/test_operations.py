"""Each operation: its command, its limits, and which replies prove that it worked.

The texts are HAProxy's own of 2.4 to 3.5; the second half asks the HAProxy that runs the tests.
"""

import socket
from collections.abc import Callable

import pytest
from core import closing, opening
from stand import Stand, await_

from sidecar.common.errors import CommandRefusedError, LocalProtocolError
from sidecar.haproxy.operations import (
    Operation,
    SetAddress,
    SetMaxconn,
    SetState,
    SetWeight,
    State,
)
from sidecar.listeners.tcp import unit_of
from sidecar.model.pool import PARKED, WEIGHT_MAX, Address

ADDRESS = SetAddress(unit_of(30000), "s1", Address("10.0.0.1", 80))
WEIGHT = SetWeight(unit_of(30000), "s1", 5)
READY = SetState(unit_of(30000), "s1", "ready")
OPEN = opening(30000)
CLOSE = closing(30000)

BY = " by 'stats socket command'"
IP_CHANGED = "IP changed from '127.0.0.1' to '10.0.0.1'"
IPV6_CHANGED = "IP changed from '10.0.0.1' to 'fd00::1'"
PORT_CHANGED = "port changed from '1' to '80'"
SAME_IP = "no need to change the addr"
SAME_PORT = "no need to change the port"


@pytest.mark.parametrize(
    ("operation", "line"),
    [
        (ADDRESS, "set server be_tcp-30000/s1 addr 10.0.0.1 port 80"),
        (
            SetAddress(unit_of(30000), "s1", Address("fd00::1", 80)),
            "set server be_tcp-30000/s1 addr fd00::1 port 80",
        ),
        (WEIGHT, "set server be_tcp-30000/s1 weight 5"),
        (READY, "set server be_tcp-30000/s1 state ready"),
        (OPEN, "enable frontend tcp-30000"),
        (CLOSE, "disable frontend tcp-30000"),
    ],
)
def test_the_command(operation: Operation, line: str) -> None:
    assert str(operation.command()) == line


@pytest.mark.parametrize(
    ("operation", "reply"),
    [
        # 2.8 and before: both halves, changed or not.
        (ADDRESS, f"{IP_CHANGED}, {PORT_CHANGED}{BY}"),
        (ADDRESS, f"{IP_CHANGED}, {SAME_PORT}{BY}"),
        (ADDRESS, f"{SAME_IP}, {PORT_CHANGED}{BY}"),
        (ADDRESS, f"{SAME_IP}, {SAME_PORT}{BY}"),
        (ADDRESS, f"{IPV6_CHANGED}, {SAME_PORT}{BY}"),
        # 3.0 and later: only what changed.
        (ADDRESS, f"{IP_CHANGED}{BY}"),
        (ADDRESS, f"{IPV6_CHANGED}{BY}"),
        (ADDRESS, f"{PORT_CHANGED}{BY}"),
        (ADDRESS, "nothing changed"),
        (WEIGHT, ""),
        (READY, ""),
        (OPEN, ""),
        (OPEN, "All sockets are already enabled."),
        (CLOSE, ""),
        (CLOSE, "All sockets are already disabled."),
    ],
)
def test_a_reply_that_proves_success(operation: Operation, reply: str) -> None:
    assert operation.succeeded(reply)


@pytest.mark.parametrize(
    ("operation", "reply"),
    [
        # Nothing at all proves nothing here, unlike for the others.
        (ADDRESS, ""),
        (ADDRESS, "No such server."),
        (ADDRESS, "No such backend."),
        (ADDRESS, "Invalid addr 'nonsense'"),
        (ADDRESS, f"Invalid addr 'nonsense'{BY}"),
        # One half worked.
        (ADDRESS, f"{IP_CHANGED}, problem converting port 'abc' to an int{BY}"),
        (
            ADDRESS,
            f"{SAME_IP}, can't change <port> to port map because it is incompatible with ...{BY}",
        ),
        (ADDRESS, "problem converting port 'abc' to an int"),
        (
            ADDRESS,
            f"Update for the current server address family is only supported through ...{BY}",
        ),
        (ADDRESS, f"{IP_CHANGED}, {PORT_CHANGED}{BY}\nand more"),
        (ADDRESS, f"{PORT_CHANGED}, {IP_CHANGED}{BY}"),
        (ADDRESS, f"{IP_CHANGED} {PORT_CHANGED}{BY}"),
        (WEIGHT, "Absolute weight can only be between 0 and 256 inclusive."),
        (
            WEIGHT,
            "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'.",
        ),
        (WEIGHT, "No such server."),
        (READY, "No such server."),
        (READY, "'set server <srv> state' expects 'ready', 'drain' and 'maint'."),
        (READY, "Permission denied"),
        (OPEN, "No such frontend."),
        (OPEN, "Failed to resume frontend, check logs for precise cause (port conflict?)."),
        (OPEN, "Frontend was previously shut down, cannot enable."),
        (OPEN, "All sockets are already disabled."),
        (CLOSE, "No such frontend."),
        (CLOSE, "Frontend was previously shut down, cannot disable."),
        (CLOSE, "Failed to pause frontend, check logs for precise cause."),
        (CLOSE, "All sockets are already enabled."),
    ],
)
def test_a_reply_that_means_failure(operation: Operation, reply: str) -> None:
    assert not operation.succeeded(reply)


@pytest.mark.parametrize("operation", [ADDRESS, WEIGHT, READY, OPEN, CLOSE])
@pytest.mark.parametrize(
    "reply", ["Unknown command: 'set'", "done", "OK", " ", "0", "success", "nothing changed!"]
)
def test_an_unknown_reply_is_failure(operation: Operation, reply: str) -> None:
    assert not operation.succeeded(reply)


@pytest.mark.parametrize("port", [-1, 0, 65536, 99999])
def test_no_port_that_haproxy_would_silently_fold_is_sent(port: int) -> None:
    with pytest.raises(LocalProtocolError, match="not a TCP port"):
        SetAddress(unit_of(30000), "s1", Address("10.0.0.1", port)).command()


@pytest.mark.parametrize("weight", [-1, WEIGHT_MAX + 1])
def test_no_weight_beyond_haproxys_is_sent(weight: int) -> None:
    with pytest.raises(LocalProtocolError, match="not a valid weight"):
        SetWeight(unit_of(30000), "s1", weight).command()


@pytest.mark.parametrize("maxconn", [-1, 2**31])
def test_no_maxconn_that_haproxy_would_silently_fold_is_sent(maxconn: int) -> None:
    with pytest.raises(LocalProtocolError, match="not a valid maxconn"):
        SetMaxconn(unit_of(30000), "s1", maxconn).command()


@pytest.mark.parametrize(
    "operation",
    [
        SetAddress(unit_of(30000), "s1", Address("10.0.0.1 port 99", 80)),
        SetAddress(unit_of(30000), "s1", Address("", 80)),
        SetAddress(unit_of(30000), "s1 addr", Address("10.0.0.1", 80)),
        SetState(unit_of(30000), "s1 state", "ready"),
        SetWeight(unit_of(30000), "s1 weight", 5),
    ],
)
def test_no_value_becomes_two_words(operation: Operation) -> None:
    with pytest.raises(LocalProtocolError, match="has a space"):
        operation.command()


def test_operations_of_two_kinds_are_never_equal() -> None:
    operations = [ADDRESS, WEIGHT, READY, OPEN, CLOSE]
    assert len(set(operations)) == len(operations)


# -- what HAProxy really answers ---------------------------------------------------------------


def apply(stand: Stand, *operations: Operation) -> None:
    outcomes = stand.client.apply(operations)
    assert [type(outcome) for outcome in outcomes] == [str] * len(operations)


def shows(stand: Stand, address: Address, slot: str = "s1") -> None:
    await_(
        lambda: stand.port(30000).servers[slot].address == address,
        f"HAProxy shows {address}",
    )


def test_every_way_to_change_an_address(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand()
    addresses = [
        PARKED,  # nothing changes
        Address("10.0.0.1", 80),  # both
        Address("10.0.0.1", 80),  # nothing
        Address("10.0.0.1", 81),  # the port only
        Address("10.0.0.2", 81),  # the IP only
        Address("fd00::1", 81),  # the IP only, to IPv6
        Address("fd00::1", 65535),
        Address("fd00::2", 1),  # both, in IPv6
        Address("10.0.0.3", 1),  # back
        PARKED,
    ]
    for address in addresses:
        apply(stand, SetAddress(unit_of(30000), "s1", address))
        shows(stand, address)


def test_an_address_can_change_in_any_state(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 3, "check": {"enabled": True}}])
    states: tuple[State, ...] = ("ready", "drain", "maint")
    for number, state in enumerate(states, 1):
        apply(stand, SetState(unit_of(30000), f"s{number}", state))
        for address in (Address("10.0.0.9", 80), Address("10.0.0.9", 81), PARKED):
            apply(stand, SetAddress(unit_of(30000), f"s{number}", address))
            shows(stand, address, f"s{number}")


def test_the_same_again_is_success(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand()
    for operation in (
        closing(30000),
        opening(30000),
        SetWeight(unit_of(30000), "s1", 0),
        SetWeight(unit_of(30000), "s1", WEIGHT_MAX),
        SetMaxconn(unit_of(30000), "s1", 2**31 - 1),
        SetMaxconn(unit_of(30000), "s1", 0),
        SetState(unit_of(30000), "s1", "ready"),
        SetState(unit_of(30000), "s1", "drain"),
        SetState(unit_of(30000), "s1", "maint"),
    ):
        apply(stand, operation, operation)


def test_what_haproxy_refuses(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand()
    stand.client.ask("shutdown frontend tcp-30001")
    refused: dict[Operation, str] = {
        SetAddress(unit_of(30000), "s9", PARKED): "No such server.",
        SetAddress(unit_of(31000), "s1", PARKED): "No such backend.",
        SetAddress(unit_of(30000), "s1", Address("nonsense", 80)): "Invalid addr 'nonsense'",
        SetWeight(unit_of(30000), "s9", 1): "No such server.",
        SetMaxconn(unit_of(30000), "s9", 1): "No such server.",
        SetState(unit_of(30000), "s9", "ready"): "No such server.",
        opening(31000): "No such frontend.",
        closing(31000): "No such frontend.",
        opening(30001): "Frontend was previously shut down, cannot enable.",
        closing(30001): "Frontend was previously shut down, cannot disable.",
    }
    errors = stand.client.apply(list(refused))
    for (operation, text), error in zip(refused.items(), errors, strict=True):
        assert isinstance(error, CommandRefusedError), operation
        assert error.command == str(operation.command())
        assert error.reply.startswith(text)


def test_another_process_on_a_closed_port_makes_opening_it_fail(
    make_stand: Callable[..., Stand],
) -> None:
    # A paused port stays bound; only who uses SO_REUSEADDR as HAProxy does can take it.
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 1}])
    apply(stand, closing(30000))
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind((stand.ip, 30000))
        squatter.listen()
        (error,) = stand.client.apply([opening(30000)])
        assert isinstance(error, CommandRefusedError)
        assert error.reply.startswith("Failed to resume frontend")
    apply(stand, opening(30000))
    await_(lambda: not stand.is_refused(30000), "the port is open again")
