"""What `top` knows: rows and their problems, what came a second, and which rows are seen."""

import json
from typing import Any

import pytest
from reported import (
    calm,
    certificate,
    crowded,
    host,
    port,
    refused,
    report,
    server,
    traffic,
    troubled,
)

from sidecar.admin.updates import Updates
from sidecar.cli.top.columns import COLUMNS, placed, servers
from sidecar.cli.top.memory import ERRORS_SECONDS, Known, Memory, read_update
from sidecar.cli.top.rows import Item, Rates, Row, row_of
from sidecar.cli.top.table import Table
from sidecar.common.shapes import ShapeError
from sidecar.reporting.reports import AttemptsReport, Report


class Source:
    """A sidecar's /api/updates, and the memory of who asks it."""

    def __init__(self) -> None:
        self.updates = Updates("a")
        self.memory = Memory()
        self.at = 0.0

    def take(self, found: Report, after_seconds: float = 2.0) -> Known:
        self.at += after_seconds
        data = self.updates.since(found, self.memory.version, self.at, self.at)
        return self.memory.take(read_update(json.loads(json.dumps(data))), self.at)


def row(item: Item, key: str = "port:1") -> Row:
    return row_of(key, item, 0.0, Rates())


def names(table: Table) -> list[str]:
    return [line.server.slot if line.server else line.row.name for line in table.lines]


# -- rows ----------------------------------------------------------------------------------------

LOST = AttemptsReport(41.0, 900, 12, 30, 4)
AGAIN = AttemptsReport(41.0, 900, 0, 3, 1)


@pytest.mark.parametrize(
    ("item", "state", "problems"),
    [
        (port(1), "open", []),
        (port(1, message="kept from before"), "open", []),
        (port(1, failure="no such server"), "failing", ["bad: cannot be reconciled: no such"]),
        (port(1, servers=(), state="closed"), "closed", ["bad: no server"]),
        (port(1, servers=(), message="no endpoints"), "open", ["bad: no endpoints"]),
        (port(1, servers=(server(state="down"),)), "open", ["bad: its only server is down"]),
        (port(1, servers=(server(state="drain"),)), "open", ["bad: no server is ready"]),
        (port(1, servers=(server(), server(2, state="down"))), "open", ["warn: 1 of 2 servers"]),
        (port(1, servers=(), shared=True, route=None), "open", []),
        (port(1, servers=(), route=None), "open", []),
        (port(1, servers=(), state="unknown"), "unknown", []),
        (port(1, reason="PodsNotReady", message="x"), "open", ["warn: PodsNotReady: x"]),
        (port(1, connections=80, connections_limit=100), "open", ["warn: 80 of 100 connections"]),
        (port(1, connections=79, connections_limit=100), "open", []),
        (port(1, connections=100, connections_limit=100), "open", ["bad: at its limit of 100"]),
        (port(1, attempts=LOST), "open", ["bad: 12 of 900 connections failed"]),
        (port(1, attempts=AGAIN), "open", ["warn: 4 failed attempts to reach a server were"]),
        (port(1, drift="s1 is drained"), "open", ["bad: changed by somebody else: s1 is drained"]),
        (
            port(1, left_out=1),
            "open",
            ["warn: 1 endpoint skipped; see limits.max_servers and pool"],
        ),
        (
            port(1, held=True, held_by="a@b"),
            "held",
            ["warn: held by a@b: the sidecar does not change it until `haproxy-sidecar release"],
        ),
        # The worst first.
        (port(1, held=True, drift="x"), "held", ["bad: changed by", "warn: held"]),
        (host("x"), "open", []),
        (host("x", failure="no"), "failing", ["bad: cannot be reconciled: no"]),
        (host("x", certificate=certificate(-3)), "open", ["bad: certificate expired on 2027"]),
        (host("x", certificate=certificate(2)), "open", ["bad: certificate ends in 2 days"]),
        (host("x", certificate=certificate(9)), "open", ["warn: certificate ends in 9 days"]),
        (host("x", certificate=certificate(90)), "open", []),
        (
            host("x", certificate=certificate(90, served=False)),
            "open",
            ["bad: certificate not served: it is being loaded"],
        ),
        (refused("demo/x", "InvalidPort", "no"), "refused", ["bad: InvalidPort: no"]),
    ],
)
def test_what_is_wrong_with_a_row(item: Item, state: str, problems: list[str]) -> None:
    found = row(item)
    assert found.state == state
    assert len(found.problems) == len(problems), found.problems
    for problem, begin in zip(found.problems, problems, strict=True):
        assert f"{problem.level}: {problem.text}".startswith(begin)
    assert found.level == (found.problems[0].level if problems else None)


@pytest.mark.parametrize(
    ("item", "name", "subject"),
    [
        (port(30000), "30000", "30000"),
        (host("shop.example", path="/cart"), "shop.example/cart", "demo/web"),
        (host("db.example", port=30001), "db.example:30001", "demo/web"),
        (refused("demo/x", "R", "m", port=30000), "30000", "demo/x"),
        (refused("demo/x", "R", "m", host="h.example", path="/p"), "h.example/p", "demo/x"),
        (refused("demo/x", "R", "m"), "x", "demo/x"),
    ],
)
def test_names(item: Item, name: str, subject: str) -> None:
    assert (row(item).name, row(item).subject) == (name, subject)


# -- what came a second --------------------------------------------------------------------------


def test_bytes_and_requests_a_second() -> None:
    source = Source()
    first = source.take(
        report(port(1, bytes_in=1000, bytes_out=0), hosts=(host("x", traffic=traffic(1, 2, 10)),))
    )
    assert first.rows["port:1"].rates == Rates()
    later = source.take(
        report(port(1, bytes_in=3000, bytes_out=10), hosts=(host("x", traffic=traffic(1, 2, 16)),)),
        after_seconds=4.0,
    )
    assert later.rows["port:1"].rates == Rates(None, 500.0, 2.5)
    assert later.rows["edge:x"].rates == Rates(1.5, 6 * 900 / 4, 6 * 14_000 / 4, 0)
    assert (later.rows["edge:x"].sessions, later.rows["edge:x"].new) == (1, 2)


@pytest.mark.parametrize("other_asks_every_seconds", [0.7, 1.05, 2.1, 100.0])
def test_others_who_ask_do_not_change_the_rates(other_asks_every_seconds: float) -> None:
    """The sidecar has a report at hand then, which may be as old as it keeps them."""
    updates, memory = Updates("a"), Memory()
    fresh_seconds = 1.0
    made, at = report(port(1, bytes_in=0)), 0.0
    asks = [(2.0 * n, True) for n in range(1, 30)]
    asks += [(other_asks_every_seconds * n, False) for n in range(1, 80)]
    found = []
    for now, is_ours in sorted(asks):
        if now - at >= fresh_seconds:
            made, at = report(port(1, bytes_in=round(100 * now))), now
        data = updates.since(made, memory.version if is_ours else "", at, now)
        if is_ours:
            update = read_update(json.loads(json.dumps(data)))
            known = memory.take(update, now - update.age_seconds)
            found.append(known.rows["port:1"].rates.bytes_in)
    assert found[0] is None
    assert found[1:] == pytest.approx([100.0] * 28, rel=0.02)


def test_what_is_not_sent_again_has_stopped() -> None:
    source = Source()
    source.take(report(port(1, bytes_in=0), port(2)))
    source.take(report(port(1, bytes_in=100), port(2)))
    still = source.take(report(port(1, bytes_in=100), port(2, sessions=3)))
    assert still.rows["port:1"].rates == Rates(None, 0.0, 0.0)
    # The same report once more says nothing new.
    same = report(port(1, bytes_in=400), port(2))
    assert source.take(same).rows["port:1"].rates.bytes_in == 150.0
    assert source.take(same).rows["port:1"].rates.bytes_in == 150.0


def test_counts_that_began_anew_are_no_rate() -> None:
    source = Source()
    source.take(report(port(1, bytes_in=1000)))
    assert source.take(report(port(1, bytes_in=5))).rows["port:1"].rates.bytes_in is None
    assert source.take(report(port(1, bytes_in=None))).rows["port:1"].rates.bytes_in is None


def test_errors_of_the_last_minute() -> None:
    source = Source()

    def errors(total: int, after_seconds: float) -> int | None:
        responses = {"2xx": 9, "5xx": total}
        found = report(hosts=(host("x", traffic=traffic(0, 0, 9, responses=responses)),))
        return source.take(found, after_seconds).rows["edge:x"].rates.errors

    # What was before is nobody's who has just come.
    assert errors(7, 1) == 0
    assert errors(9, 1) == 2
    assert errors(10, ERRORS_SECONDS - 2) == 3
    assert errors(10, 3) == 1
    assert errors(10, ERRORS_SECONDS) == 0
    assert errors(3, 1) == 0
    assert errors(4, 1) == 1
    lost = source.take(report(port(1, attempts=LOST)))
    assert lost.rows["port:1"].rates.errors == 12


def test_errors_of_what_has_no_responses() -> None:
    source = Source()

    def errors(connection: int, response: int) -> int | None:
        counted = traffic(
            0, 0, 9, responses=None, connection_errors=connection, response_errors=response
        )
        found = source.take(report(hosts=(host("x", traffic=counted),)))
        return found.rows["edge:x"].rates.errors

    assert errors(1, 1) == 0
    assert errors(3, 1) == 2
    assert errors(3, 4) == 5


def test_errors_of_a_row_that_was_gone_begin_anew() -> None:
    source = Source()

    def having(*totals: int) -> Known:
        hosts = tuple(
            host("x", traffic=traffic(0, 0, 9, responses={"5xx": total})) for total in totals
        )
        return source.take(report(hosts=hosts))

    having(7)
    having()
    assert having(9).rows["edge:x"].rates.errors == 0, "nobody saw them come"


def test_rows_come_and_go() -> None:
    source = Source()
    assert source.take(report(port(1), port(2))).rows.keys() == {"port:1", "port:2"}
    assert source.take(report(port(2), port(3))).rows.keys() == {"port:2", "port:3"}
    source.updates = Updates("another run")
    assert source.take(report(port(4))).rows.keys() == {"port:4"}


def test_ages_count_on() -> None:
    found = Source().take(report(port(1, changed_seconds_ago=5.0)), after_seconds=100.0)
    assert found.rows["port:1"].changed(107.0) == 12.0


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {"version": "a.1", "whole": True, "age_seconds": 0.0, "gone": []},
        {"version": "a.1", "whole": True, "age_seconds": 0, "gone": [], "head": {}, "rows": []},
        {"version": 1, "whole": True, "age_seconds": 0, "gone": [], "head": {}, "rows": []},
    ],
)
def test_an_answer_of_another_shape(wrong: Any) -> None:
    with pytest.raises(ShapeError):
        read_update(wrong)


def test_a_row_of_another_shape() -> None:
    data = json.loads(json.dumps(Updates("a").since(report(port(1)), "")))
    for rows in ([{"key": 1}], ["x"], [{"key": "port:1"}]):
        with pytest.raises(ShapeError):
            read_update({**data, "rows": rows})


# -- columns -------------------------------------------------------------------------------------


def test_columns_give_way_to_names() -> None:
    everything = [column.title for column in COLUMNS]
    assert [item.column.title for item in placed(198, 20, 30)] == everything
    narrow = placed(78, 20, 30)
    assert [item.column.title for item in narrow] == [
        *("NAME", "STATE", "ROUTE", "SERVERS", "SESS", "NEW/S", "ERR", "CHANGED"),
    ]
    going = ["REQ/S", "IN/S", "OUT/S", "NEW/S", "CHANGED"]
    for names_width in range(4, 60):
        there = [item.column.title for item in placed(78, names_width, 8)]
        # In this order, and in 80 columns never the last two.
        gone = [title for title in going if title not in there]
        assert gone == going[: len(gone)]
        assert len(gone) <= 3
        assert not gone or names_width > 8
    tiny = placed(30, 40, 40)
    assert [item.column.title for item in tiny] == [
        "NAME",
        "STATE",
        "ROUTE",
        "SERVERS",
        "SESS",
        "ERR",
    ]
    for width in range(40, 250):
        for name, route in ((5, 5), (60, 8), (8, 60), (90, 90)):
            found = placed(width, name, route)
            assert all(item.width > 0 for item in found)
            assert sum(item.width for item in found) + len(found) - 1 == width


@pytest.mark.parametrize(
    ("found", "text"),
    [(None, "-"), (0.0, "0"), (0.04, "<0.1"), (0.4, "0.4"), (1.0, "1"), (1.6, "2"), (4321, "4.3k")],
)
def test_little_is_not_nothing(found: float | None, text: str) -> None:
    (column,) = [column for column in COLUMNS if column.title == "REQ/S"]
    assert column.text(row_of("edge:x", host("x"), 0.0, Rates(requests=found)), 0.0) == text


def test_servers_by_state() -> None:
    states = ("ready", "ready", "down", "drain", "maint")
    item = port(1, servers=tuple(server(n, state=state) for n, state in enumerate(states)))
    assert servers(row(item)) == "2/1/2"
    assert servers(row(refused("demo/x", "R", "m"))) == ""


# -- the table -----------------------------------------------------------------------------------


def table_of(found: Report) -> Table:
    table = Table()
    table.take(Source().take(found), 2.0)
    return table


def test_ports_hosts_and_what_is_refused() -> None:
    found = report(
        port(9),
        port(10),
        hosts=(host("b10.test"), host("b9.test")),
        waiting=(refused("demo/a", "R", "m"),),
    )
    assert names(table_of(found)) == ["9", "10", "b9.test", "b10.test", "a"]


@pytest.mark.parametrize(
    ("letter", "first"),
    [
        ("N", "30000"),
        ("T", "30000"),
        ("R", "api.example"),
        ("V", "30000"),  # the fewest that are ready
        ("S", "30004"),  # the most sessions
        ("W", "www.example/cart"),
        ("C", "api.example"),  # the latest change
    ],
)
def test_sorting(letter: str, first: str) -> None:
    table = table_of(calm())
    table.move(len(table.lines))
    table.sort_by(letter, 2.0)
    assert table.chosen == 0
    assert names(table)[0] == first
    column = COLUMNS[table.sort]

    def values() -> list[Any]:
        found = [column.value(line.row, 2.0) for line in table.lines]
        return [value for value in found if value is not None]

    assert values() == sorted(values(), reverse=column.falls)
    table.turn_round(2.0)
    assert values() == sorted(values(), reverse=not column.falls)


def test_equal_ones_stay_by_name() -> None:
    table = table_of(report(port(3, sessions=1), port(1, sessions=1), port(2, sessions=5)))
    table.sort_by("S", 2.0)
    assert names(table) == ["2", "1", "3"]
    table.turn_round(2.0)
    assert names(table) == ["1", "3", "2"]


def test_what_was_gone_is_not_expanded() -> None:
    source, table = Source(), Table()
    table.take(source.take(report(port(1))), 2.0)
    table.expand(2.0)
    assert names(table) == ["1", "s1"]
    table.take(source.take(report()), 4.0)
    table.take(source.take(report(port(1))), 6.0)
    assert names(table) == ["1"]


def test_what_is_not_known_is_last_either_way() -> None:
    table = table_of(report(port(1, sessions=None), port(2, sessions=1), port(3, sessions=2)))
    table.sort_by("S", 2.0)
    assert names(table) == ["3", "2", "1"]
    table.turn_round(2.0)
    assert names(table) == ["2", "3", "1"]
    table.sort_by("X", 2.0)
    assert names(table) == ["2", "3", "1"]
    table.sort_beside(-1, 2.0)
    assert COLUMNS[table.sort].title == "SERVERS"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("kafka", ["30001"]),
        ("KAFKA 3000", ["30001"]),
        ("worker-4 redis", ["30003"]),
        ("closed", ["30010"]),
        ("expired", ["old.example"]),
        ("invalidport", ["bad"]),
        ("nothing of it", []),
    ],
)
def test_the_filter(text: str, found: list[str]) -> None:
    table = table_of(troubled())
    table.set_filter(text, 2.0)
    assert names(table) == found
    assert table.found == len(table.lines)
    table.set_filter("", 2.0)
    assert table.found == table.total


@pytest.mark.parametrize("text", ["10.9.9.9:5432", "other ca", "cn=shop", "web-7", "node-x", "b7"])
def test_whatever_is_known_of_a_row_is_found(text: str) -> None:
    of = server(7, address="10.9.9.9:5432", node="node-x", pod="web-7")
    signed = certificate(90, issuer="CN=Other CA")
    found = host("x", backend="b7", servers=(of,), certificate=signed)
    table = table_of(report(port(1), hosts=(found, host("y"))))
    table.set_filter(text, 2.0)
    assert names(table) == ["x"]


def test_only_problems() -> None:
    table = table_of(troubled())
    table.show_problems(2.0)
    assert "30001" not in names(table)
    assert {"30010", "30017", "bad", "soon.example"} <= set(names(table))
    assert [row.level for row in table.problems] == sorted(
        row.level or "" for row in table.problems
    )


def test_what_is_chosen_stays_so() -> None:
    source, table = Source(), Table()
    table.take(source.take(report(port(1), port(2), port(3, servers=(server(1), server(2))))), 2.0)
    table.move(len(table.lines))
    table.expand(2.0)
    table.move(len(table.lines))
    assert names(table) == ["1", "2", "3", "s1", "s2"]
    assert chosen_in(table) == ("port:3", "s2")
    # Another row before it.
    table.take(source.take(report(port(0), port(3, servers=(server(2), server(1))))), 4.0)
    assert names(table) == ["0", "3", "s2", "s1"]
    assert chosen_in(table) == ("port:3", "s2")
    # Its server is gone: its row. Its row is gone: what is there.
    table.take(source.take(report(port(0), port(3, servers=(server(1),)))), 6.0)
    assert chosen_in(table) == ("port:3", "")
    table.take(source.take(report(port(0))), 8.0)
    assert chosen_in(table) == ("port:0", "")
    table.take(source.take(report()), 10.0)
    assert chosen_in(table) is None
    table.expand(10.0)
    table.move(1)
    assert table.chosen == 0


def chosen_in(table: Table) -> tuple[str, str] | None:
    return table.line.name if table.line else None


def test_expanding_says_what_is_wrong() -> None:
    table = table_of(report(port(1, drift="s1 is drained", held=True)))
    table.expand(2.0)
    assert [line.problem.level if line.problem else "" for line in table.lines] == [
        *("", "bad", "warn", ""),
    ]
    table.move(2)
    table.expand(2.0)
    assert names(table) == ["1"]
    assert table.chosen == 0


def test_the_window_follows() -> None:
    table = table_of(crowded(100))

    def seen() -> tuple[int, int]:
        places = [place for place, _ in table.window(10)]
        return places[0], places[-1]

    assert seen() == (0, 9)
    table.move(9)
    assert seen() == (0, 9)
    table.move(1)
    assert seen() == (1, 10)
    table.move(len(table.lines))
    assert seen() == (90, 99)
    table.move(-9)
    assert seen() == (90, 99)
    table.move(-1)
    assert seen() == (89, 98)
    table.move(-len(table.lines))
    assert seen() == (0, 9)
    table.move(len(table.lines))
    table.set_filter("redis", 2.0)
    assert seen() == (0, 0)
