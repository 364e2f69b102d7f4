"""HAProxy's tables as values: what the parsers take, what they refuse, what HAProxy really says."""

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Sequence

import pytest
from core import PORTS
from hypothesis import given
from hypothesis import strategies as st
from stand import EchoServer, MakeStand, Stand, await_

from sidecar.common.errors import RemoteProtocolError
from sidecar.common.hostport import canonical_ip
from sidecar.control.observer import Observer
from sidecar.haproxy.operations import AddServer, EnableHealth, SetAddress, SetState, SetWeight
from sidecar.haproxy.state import (
    ObservedServer,
    ProcessInfo,
    parse_frontends,
    parse_info,
    parse_server_sessions,
    parse_servers_state,
)
from sidecar.listeners.tcp import port_of, unit_of
from sidecar.model.pool import PARKED, WEIGHT_MAX, Address


@pytest.mark.parametrize(("ports", "slots"), [(100, 8), (3, 70)])
def test_a_look_whose_answer_nobody_reads_kills_no_haproxy(
    make_stand: MakeStand, ports: int, slots: int
) -> None:
    """As when the sidecar is killed, or has waited for too long. HAProxy 3.2 dies of it where all
    servers are asked for at once, or those of a backend with more than some 70."""
    stand = make_stand(pools=[{"ports": [f"30000-{29999 + ports}"], "slots": slots}])
    lines = Observer(stand.client, stand.ports).look_at(stand.ports.classes, touched=None).lines
    asked = "".join(f"{line}\n" for line in ("prompt", *lines)).encode()
    pid = stand.info().pid
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(stand.settings.haproxy.socket)
            connection.sendall(asked)
        assert stand.info().pid == pid
        assert len(stand.observed()) == ports


# -- show servers state ------------------------------------------------------------------------

#: The columns of 2.4 to 3.2, in their order, with a row of ours.
ROW = {
    "be_id": "3",
    "be_name": "be_tcp-30000",
    "srv_id": "1",
    "srv_name": "s1",
    "srv_addr": "10.0.0.1",
    "srv_op_state": "2",
    "srv_admin_state": "4",
    "srv_uweight": "7",
    "srv_iweight": "256",
    "srv_time_since_last_change": "1",
    "srv_check_status": "1",
    "srv_check_result": "0",
    "srv_check_health": "1",
    "srv_check_state": "6",
    "srv_agent_state": "0",
    "bk_f_forced_id": "0",
    "srv_f_forced_id": "0",
    "srv_fqdn": "slot.invalid",
    "srv_port": "9000",
    "srvrecord": "-",
    "srv_use_ssl": "0",
    "srv_check_port": "0",
    "srv_check_addr": "-",
    "srv_agent_addr": "-",
    "srv_agent_port": "0",
}
NEEDED = (
    "be_name",
    "srv_name",
    "srv_addr",
    "srv_op_state",
    "srv_admin_state",
    "srv_uweight",
    "srv_port",
    "srv_time_since_last_change",
    "srv_check_state",
    "srv_agent_state",
)
SEEN = ObservedServer(
    "s1",
    Address("10.0.0.1", 9000),
    "ready",
    7,
    up=True,
    seconds_since_change=int(ROW["srv_time_since_last_change"]),
    checks="on",
)


def state(*rows: dict[str, str], columns: Sequence[str] = tuple(ROW)) -> str:
    lines = [" ".join(row[column] for column in columns) for row in rows]
    return "\n".join(["1", f"# {' '.join(columns)}", *lines])


def one(**changes: str) -> ObservedServer:
    """The server of a table of one row with ``changes``."""
    return parse_servers_state(state({**ROW, **changes}))[unit_of(30000)]["s1"]


def test_a_row() -> None:
    assert parse_servers_state(state(ROW)) == {unit_of(30000): {"s1": SEEN}}


def test_servers_by_port_in_haproxys_order() -> None:
    rows = [
        {**ROW, "be_name": f"be_tcp-{port}", "srv_name": f"s{n}", "srv_port": str(port + n)}
        for port in (30001, 30000)
        for n in (10, 2, 1)
    ]
    found = parse_servers_state(state(*rows))
    assert list(found) == [unit_of(30001), unit_of(30000)]
    assert {unit: list(servers) for unit, servers in found.items()} == {
        unit_of(30001): ["s10", "s2", "s1"],
        unit_of(30000): ["s10", "s2", "s1"],
    }
    assert found[unit_of(30001)]["s2"].address.port == 30003
    assert found[unit_of(30000)]["s10"].address.port == 30010


def test_rows_that_differ_only_in_front_are_still_servers_of_their_own_port() -> None:
    rows = [
        {**ROW, "be_id": str(port), "be_name": f"be_tcp-{port}", "srv_addr": f"10.0.0.{port % 2}"}
        for port in range(30000, 30010)
    ]
    found = parse_servers_state(state(*rows))
    assert {unit: found[unit]["s1"].address.ip for unit in found} == {
        unit_of(port): f"10.0.0.{port % 2}" for port in range(30000, 30010)
    }


@given(st.permutations([column for column in ROW if column not in {"be_id", "be_name"}]))
def test_columns_are_found_by_name(columns: list[str]) -> None:
    text = state(ROW, columns=["be_id", "be_name", *columns])
    assert parse_servers_state(text) == {unit_of(30000): {"s1": SEEN}}


def test_columns_that_haproxy_may_add_are_of_no_matter() -> None:
    row = {**ROW, "new": "x", "newer": "-"}
    for columns in (
        (*ROW, "new", "newer"),
        ("new", *ROW, "newer"),
        ("be_id", "new", *list(ROW)[1:]),
    ):
        assert parse_servers_state(state(row, columns=columns)) == {unit_of(30000): {"s1": SEEN}}


def test_columns_that_we_do_not_need_may_be_missing() -> None:
    assert parse_servers_state(state(ROW, columns=NEEDED)) == {unit_of(30000): {"s1": SEEN}}


@pytest.mark.parametrize("column", NEEDED)
def test_a_column_that_we_need_is_missed_by_name(column: str) -> None:
    with pytest.raises(RemoteProtocolError, match=f"lacks a column: '{column}'"):
        parse_servers_state(state(ROW, columns=[name for name in ROW if name != column]))


def test_columns_may_stand_in_any_order() -> None:
    columns = [*ROW][::-1]
    assert parse_servers_state(state(ROW, columns=columns)) == {unit_of(30000): {"s1": SEEN}}


def test_a_table_without_rows() -> None:
    assert parse_servers_state(state()) == {}
    assert parse_servers_state(state() + "\n\n") == {}


def test_other_backends_are_ignored_whatever_is_in_them() -> None:
    foreign = [
        "haproxy-metrics",
        "be_tcp-",
        "be_tcp-x",
        "xbe_tcp-30000",
        "be_tcp-30000x",
        "be_http",
    ]
    rows = [{**ROW, "be_name": name, "srv_addr": "-", "srv_port": "none"} for name in foreign]
    assert parse_servers_state(state(*rows)) == {}
    assert parse_servers_state(state(rows[0], ROW, rows[1])) == {unit_of(30000): {"s1": SEEN}}


def test_ipv6() -> None:
    server = one(srv_addr="fd00::1")
    assert server.address == Address("fd00::1", 9000)
    assert str(server.address) == "[fd00::1]:9000"


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (0x00, "ready"),
        (0x01, "maint"),  # by command
        (0x04, "ready"),  # was "disabled" in haproxy.cfg, made ready since
        (0x05, "maint"),  # "disabled" in haproxy.cfg, untouched
        (0x08, "drain"),
        (0x0C, "drain"),
        (0x09, "maint"),  # maint wins
        (0x0D, "maint"),
        (0x20, "maint"),  # its name does not resolve
        (0x24, "maint"),
        (0x28, "maint"),
        (0x40, "ready"),  # its name was changed by command
    ],
)
def test_administrative_states(bits: int, expected: str) -> None:
    assert one(srv_admin_state=str(bits)).state == expected


@pytest.mark.parametrize(("number", "up"), [("0", False), ("1", True), ("2", True), ("3", True)])
def test_operational_states(number: str, up: bool) -> None:
    assert one(srv_op_state=number).up is up


@pytest.mark.parametrize(
    ("check", "agent", "expected"),
    [
        (0, 0, "none"),
        (0x02, 0, "off"),
        (0x02 | 0x08, 0, "off"),
        (0x02 | 0x04, 0, "on"),
        (0x01 | 0x02 | 0x04, 0, "on"),
        (0x02 | 0x04 | 0x08, 0, "on"),
        (0, 0x10, "none"),
        (0, 0x02 | 0x04 | 0x10, "on"),
    ],
)
def test_whether_checks_run(check: int, agent: int, expected: str) -> None:
    assert one(srv_check_state=str(check), srv_agent_state=str(agent)).checks == expected


@pytest.mark.parametrize(
    "row",
    [
        "x",
        "3 be_tcp-30000",
        "3 be_tcp-30000 1 s1 10.0.0.1 2 4 7 256",
        " ".join({**ROW, "srv_port": "http"}.values()),
        " ".join({**ROW, "srv_admin_state": "-"}.values()),
        " ".join({**ROW, "srv_uweight": ""}.values()),
    ],
)
@pytest.mark.parametrize("before", [[], [ROW]], ids=["first", "later"])
def test_a_broken_row_is_an_error_that_shows_it(row: str, before: list[dict[str, str]]) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_servers_state(state(*before) + f"\n{row}\n")
    assert repr(row) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1\n",
        "Can't find backend.",
        "2\n# be_id be_name",
        "1\nbe_id be_name",
        "\n\n",
        "# x\n1",
    ],
)
def test_what_is_no_servers_state(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match="'show servers state'"):
        parse_servers_state(text)


@given(st.text(max_size=200) | st.text(alphabet="1\n# be_name-tcp30", max_size=200))
def test_any_text_is_a_table_or_an_error(text: str) -> None:
    for parse in (parse_servers_state, parse_frontends, parse_server_sessions, parse_info):
        for start in ("", "1\n# be_name srv_name srv_addr\n", "# pxname,svname,status,scur\n"):
            with contextlib.suppress(RemoteProtocolError):
                parse(start + text)


# -- show stat ---------------------------------------------------------------------------------


def stat(*rows: str, header: str = "# pxname,svname,scur,status,-,mode,used_conn_cur") -> str:
    return "\n".join([header, *rows])


def listening(text: str) -> dict[int, bool]:
    return {
        port_of(unit): bool(keys)
        for unit, keys in PORTS.parse({"show stat -1 1 -1": text}, PORTS.classes).items()
    }


def test_frontends() -> None:
    text = stat(
        "tcp-30000,FRONTEND,0,OPEN,-,tcp,0",
        "tcp-30001,FRONTEND,3,PAUSED,-,tcp,0",
        "tcp-30002,FRONTEND,9,FULL,-,tcp,0",
        "tcp-30003,FRONTEND,0,STOP,-,tcp,0",
        "tcp-30004,FRONTEND,0,,-,tcp,0",
    )
    assert listening(text) == {
        30000: True,
        30001: False,
        30002: True,
        30003: False,
        30004: False,
    }


def test_only_our_frontends_and_nothing_else_of_them() -> None:
    text = stat(
        "haproxy-metrics,FRONTEND,0,OPEN,-,tcp,0",
        "tcp-x,FRONTEND,0,OPEN,-,tcp,0",
        "be_tcp-30000,BACKEND,0,UP,-,tcp,0",
        "tcp-30001,sock-1,0,OPEN,-,tcp,0",
    )
    assert listening(text) == {}


def test_sessions() -> None:
    text = stat(
        "be_tcp-30000,s1,2,UP,-,tcp,0",
        "be_tcp-30000,s2,0,MAINT,-,tcp,0",
        "be_tcp-30000,BACKEND,2,UP,-,tcp,0",
        "be_tcp-30001,s1,,no check,-,tcp,0",
        "tcp-30000,FRONTEND,2,OPEN,-,tcp,0",
        "other,s1,5,UP,-,tcp,0",
    )
    assert parse_server_sessions(text) == {
        unit_of(30000): {"s1": 2, "s2": 0},
        unit_of(30001): {"s1": 0},
    }


def test_a_connection_that_is_used_is_a_session_in_http() -> None:
    """And one that may be kept later; HAProxy counts those of TCP, too, but keeps none."""
    text = stat(
        "be_http_1,s1,0,UP,-,http,1",
        "be_http_1,s2,3,UP,-,http,2",
        "be_pass_1,s1,0,UP,-,tcp,1",
        "be_http_1,BACKEND,3,UP,-,http,",
    )
    assert parse_server_sessions(text) == {"be_http_1": {"s1": 1, "s2": 3}, "be_pass_1": {"s1": 0}}


def test_stat_columns_are_found_by_name() -> None:
    header = "# pxname,new,status,scur,svname,mode,used_conn_cur"
    assert parse_server_sessions(stat("be_tcp-30000,x,UP,4,s1,tcp,4", header=header)) == {
        unit_of(30000): {"s1": 4}
    }
    assert listening(stat("tcp-30000,x,OPEN,4,FRONTEND,tcp,", header=header)) == {30000: True}


def test_stat_is_quoted_csv() -> None:
    header = "# pxname,svname,last_chk,status,scur,mode,used_conn_cur"
    text = stat(
        'be_tcp-30000,s1,"a ""word"", and, more",UP,4,tcp,4',
        'be_tcp-30000,"s2",,"UP",5,"tcp",5',
        header=header,
    )
    assert parse_server_sessions(text) == {unit_of(30000): {"s1": 4, "s2": 5}}


@pytest.mark.parametrize("column", ["svname", "status", "scur", "mode", "used_conn_cur"])
def test_a_stat_column_that_we_need_is_missed_by_name(column: str) -> None:
    header = stat().replace(column, "x")
    parse = parse_frontends if column == "status" else parse_server_sessions
    with pytest.raises(RemoteProtocolError, match=f"lacks a column: .*{column}"):
        parse(header)


def test_stat_without_rows() -> None:
    assert parse_frontends(stat()) == {}
    assert parse_server_sessions(stat("", "")) == {}


@pytest.mark.parametrize(
    "row", ["be_tcp-30000,s1", "x", "be_tcp-30000,s1,many,UP,-,tcp,0", 'be_tcp-30000,"s1,0,UP,-,']
)
def test_a_broken_stat_row_is_an_error_that_shows_it(row: str) -> None:
    with pytest.raises(
        RemoteProtocolError, match=f"'show stat' is broken: .*{row.partition(',')[0]}"
    ):
        parse_server_sessions(stat("be_tcp-29999,s1,0,UP,-,tcp,0", row))


def test_a_field_without_end_is_an_error() -> None:
    with pytest.raises(RemoteProtocolError, match="'show stat' is broken"):
        parse_server_sessions(stat('be_tcp-30000,"s1' + "x" * 200_000))


@pytest.mark.parametrize("text", ["", "No such proxy.", "pxname,svname", "\n# pxname,svname", "[]"])
def test_what_is_no_stat(text: str) -> None:
    for parse in (parse_frontends, parse_server_sessions):
        with pytest.raises(RemoteProtocolError, match="not a reply to 'show stat'"):
            parse(text)


# -- show info ---------------------------------------------------------------------------------

INFO = """Name: HAProxy
Version: 2.6.12-1+deb12u4
Release_date: 2026/10/17
Nbthread: 2
Pid: 18484
Uptime: 0d 0h00m07s
Uptime_sec: 7
CurrConns: 3
Stopping: 0
node: somewhere
description: what: Pid: 1
Start_time_sec: 1795247980
Tainted: 0"""


def test_info() -> None:
    info = parse_info(INFO)
    assert info == ProcessInfo("2.6.12-1+deb12u4", 18484, 1795247980, 7, 3, stopping=False)
    assert info.identity == (18484, 1795247980)


def test_the_same_pid_in_a_container_is_another_process() -> None:
    assert (
        parse_info(INFO).identity != parse_info(INFO.replace("1795247980", "1795247999")).identity
    )


def test_info_of_versions_without_a_start_time() -> None:
    lines = [line for line in INFO.split("\n") if not line.startswith("Start_time")]
    assert parse_info("\n".join(lines)).start_time_seconds == 0


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.6.12-1+deb12u4", (2, 6)),
        ("3.0.11-1+deb13u3", (3, 0)),
        ("3.2.26-1", (3, 2)),
        ("3.5-dev5", (3, 5)),
        ("3.4-dev0-a1b2c3-12", (3, 4)),
        ("2.4.0", (2, 4)),
        ("3.0+git20260101", (3, 0)),
        ("10.11.12", (10, 11)),
        ("unknown", ()),
    ],
)
def test_versions_compare_by_branch(version: str, expected: tuple[int, ...]) -> None:
    assert ProcessInfo(version, 1, 1, 1, 1, stopping=False).version_tuple == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Unknown command",
        "Version: 2.6",
        INFO.replace("Pid: 18484", "Pid: x"),
        INFO.replace("Version", "Vision"),
        INFO.replace("Uptime_sec: 7\n", ""),
    ],
)
def test_what_is_no_info(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match="not a reply to 'show info'"):
        parse_info(text)


# -- what HAProxy really says ------------------------------------------------------------------


def test_a_pool_that_nobody_touched(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand()
    observed = stand.observed()
    assert list(observed) == list(range(30000, 30010))
    for port, seen in observed.items():
        assert seen.unit == unit_of(port)
        assert seen.open
        assert list(seen.servers) == ["s1", "s2", "s3", "s4"]
        for name, server in seen.servers.items():
            since = server.seconds_since_change
            assert server == ObservedServer(name, PARKED, "maint", WEIGHT_MAX, False, since)
            assert since <= stand.info().uptime_seconds + 1


def test_states_and_weights(
    make_stand: Callable[..., Stand], make_server: Callable[..., EchoServer]
) -> None:
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 6}])
    where = make_server().address
    results = stand.client.apply(
        [
            *(SetAddress(unit_of(30000), f"s{n}", where) for n in range(1, 6)),
            SetState(unit_of(30000), "s1", "ready"),
            SetWeight(unit_of(30000), "s1", 7),
            SetState(unit_of(30000), "s2", "drain"),
            SetState(unit_of(30000), "s3", "ready"),
            SetState(unit_of(30000), "s3", "drain"),
            SetState(unit_of(30000), "s4", "drain"),
            SetState(unit_of(30000), "s4", "maint"),
            SetState(unit_of(30000), "s5", "ready"),
            SetWeight(unit_of(30000), "s5", 0),
        ]
    )
    assert {type(result) for result in results} == {str}
    await_(lambda: stand.port(30000).servers["s5"].address == where, "the addresses are shown")
    servers = stand.port(30000).servers
    assert {name: (server.state, server.weight, server.up) for name, server in servers.items()} == {
        "s1": ("ready", 7, True),
        "s2": ("drain", 256, True),
        "s3": ("drain", 256, True),
        "s4": ("maint", 256, False),
        "s5": ("ready", 0, True),
        "s6": ("maint", 256, False),
    }
    # And back: what haproxy.cfg said of it ("disabled") leaves a bit that means nothing.
    stand.client.apply([SetState(unit_of(30000), f"s{n}", "ready") for n in range(1, 7)])
    assert {server.state for server in stand.port(30000).servers.values()} == {"ready"}
    stand.client.apply([SetState(unit_of(30000), f"s{n}", "maint") for n in range(1, 7)])
    assert {server.state for server in stand.port(30000).servers.values()} == {"maint"}


def test_checks_that_are_on_off_and_not_there(make_stand: Callable[..., Stand]) -> None:
    pools = [{"ports": ["30000"], "slots": 2, "check": {"enabled": True}}, {"ports": ["30001"]}]
    stand = make_stand(pools=pools)
    added = [AddServer(unit_of(30000), name, 1, ("check",)) for name in ("x1", "x2")]
    stand.client.apply(
        [*added, AddServer(unit_of(30001), "x1", 1, ()), EnableHealth(unit_of(30000), "x2")]
    )
    assert stand.client.ask("disable health be_tcp-30000/s2") == ""
    shown = {name: server.checks for name, server in stand.port(30000).servers.items()}
    assert shown == {"s1": "on", "s2": "off", "x1": "off", "x2": "on"}
    assert {server.checks for server in stand.port(30001).servers.values()} == {"none"}


def test_a_server_that_a_check_finds_down_is_ready_and_not_up(
    make_stand: Callable[..., Stand],
) -> None:
    check = {"enabled": True, "interval": "20ms", "fall": 1}
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 1, "check": check}])
    stand.client.apply([SetState(unit_of(30000), "s1", "ready")])  # where nothing listens
    await_(lambda: not stand.port(30000).servers["s1"].up, "the check failed")
    assert stand.port(30000).servers["s1"].state == "ready"


def test_frontends_with_sessions_on_them(
    make_stand: Callable[..., Stand], make_server: Callable[..., EchoServer]
) -> None:
    stand = make_stand(pools=[{"ports": ["30000-30001"], "slots": 2}])
    where = make_server().address
    stand.client.apply([SetAddress(unit_of(30000), "s1", where)])
    await_(lambda: stand.port(30000).servers["s1"].address == where, "the address is shown")
    stand.client.apply([SetState(unit_of(30000), "s1", "ready")])
    client = stand.connect(30000)
    assert stand.port(30000).open
    for _ in range(3):
        assert stand.client.ask("disable frontend tcp-30000") == ""
        assert not stand.port(30000).open
        assert stand.port(30001).open
        assert stand.is_refused(30000)
        client.echo()
        assert stand.client.ask("enable frontend tcp-30000") == ""
        await_(lambda: stand.port(30000).open and not stand.is_refused(30000), "open again")
        client.echo()
    stand.client.ask("shutdown frontend tcp-30000")
    # A frontend that was shut down is closed, or, to some versions, not there any more.
    seen = stand.observed().get(30000)
    assert seen is None or not seen.open
    client.close()


def test_a_frontend_that_is_full_listens(
    make_stand: Callable[..., Stand], make_server: Callable[..., EchoServer]
) -> None:
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 1}])
    where = make_server().address
    stand.client.apply([SetAddress(unit_of(30000), "s1", where)])
    await_(lambda: stand.port(30000).servers["s1"].address == where, "the address is shown")
    stand.client.apply([SetState(unit_of(30000), "s1", "ready")])
    assert stand.client.ask("set maxconn frontend tcp-30000 1") == ""
    client = stand.connect(30000)
    assert stand.port(30000).open
    client.close()


def test_sessions_are_counted(
    make_stand: Callable[..., Stand], make_server: Callable[..., EchoServer]
) -> None:
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 2, "balance": "roundrobin"}])
    where = [make_server().address, make_server().address]
    stand.client.apply([SetAddress(unit_of(30000), f"s{n}", where[n - 1]) for n in (1, 2)])
    await_(lambda: stand.port(30000).servers["s2"].address == where[1], "the addresses are shown")
    stand.client.apply([SetState(unit_of(30000), f"s{n}", "ready") for n in (1, 2)])

    def counted() -> list[int | None]:
        return [server.sessions for server in stand.port(30000).servers.values()]

    clients = [stand.connect(30000) for _ in range(6)]
    assert counted() == [3, 3]
    # They are counted on a server that left, too.
    stand.client.apply([SetState(unit_of(30000), "s1", "maint")])
    assert counted() == [3, 3]
    for client in clients:
        client.close()
    await_(lambda: counted() == [0, 0], "sessions end")


def test_which_process(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand()
    info = stand.info()
    assert stand._process is not None
    assert info.pid == stand._process.pid
    assert info.version_tuple >= (2, 4)
    assert info.start_time_seconds > 0
    stand.stop_haproxy()
    stand.client.close()
    assert stand.start_haproxy().identity != info.identity


# -- addresses as HAProxy writes them ----------------------------------------------------------


@given(st.ip_addresses(v=6) | st.ip_addresses(v=4))
def test_an_endpoints_address_is_written_as_haproxy_writes_it(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    # HAProxy uses inet_ntop; an address that it writes in another way would never be read back.
    text = canonical_ip(str(address))
    if text is None:
        return
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    assert socket.inet_ntop(family, socket.inet_pton(family, text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "10.1.2.3",
        "::ffff:10.1.2.3",
        "fd00::1",
        "FD00::A",
        "fd00:0:0:1:0:0:0:1",
        "fd00:0:1:2:3:4:5:6",
        "1:0:0:2:0:0:3:4",
        "64:ff9b::10.0.0.1",
        "2001:db8::",
    ],
)
def test_haproxy_shows_an_address_as_we_wrote_it(
    make_stand: Callable[..., Stand], text: str
) -> None:
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 1}])
    ip = canonical_ip(text)
    assert ip is not None
    wanted = Address(ip, 9000)
    (outcome,) = stand.client.apply([SetAddress(unit_of(30000), "s1", wanted)])
    assert isinstance(outcome, str)
    await_(lambda: stand.port(30000).servers["s1"].address == wanted, f"HAProxy shows {wanted}")


def test_who_asks_for_figures_does_not_change_what_the_loop_knows(make_stand: MakeStand) -> None:
    """Their answers come in another thread, and may be older than what the loop did meanwhile."""
    stand = make_stand()
    kind, port = stand.ports, min(stand.pool.ports)
    observer = Observer(stand.client, kind)
    before = observer.look(kind.classes)[1][unit_of(port)].open
    assert stand.client.ask(f"{'disable' if before else 'enable'} frontend tcp-{port}") == ""
    seen = observer.traffic([port]).observed[unit_of(port)]
    assert seen.open is not before
    assert observer.look([unit_of(port)])[1][unit_of(port)].open is before
