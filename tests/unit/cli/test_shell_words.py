"""The shell without HAProxy: what may be typed, what is guarded, completed, shown as tables."""

import re
from collections.abc import Sequence

import pytest

from sidecar.cli.grid import lay_out
from sidecar.cli.shell.completion import (
    ACLS,
    BACKENDS,
    FRONTENDS,
    MAPS,
    SERVERS,
    TABLES,
    Element,
    candidates,
    parse_help,
    parse_names,
    parse_usage,
)
from sidecar.cli.shell.guard import caution, changes, prospect
from sidecar.cli.shell.lines import is_refusal, split_line
from sidecar.cli.shell.tables import read_table
from sidecar.common.errors import UsageError

# -- lines -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("show info", ["show info"]),
        ("  show \t info  ", ["show info"]),
        ("show info;show stat ; ;", ["show info", "show stat"]),
        ("", []),
        (" ; ", []),
        ("# show info; show stat", []),
        ("quit", ["quit"]),
    ],
)
def test_a_line_is_split_into_commands(line: str, commands: list[str]) -> None:
    assert split_line(line) == commands


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("add map #0 <<", "payload"),
        ("show info; set ssl cert x <<\n", "payload"),
        ("prompt", "'prompt' is not sent"),
        ("show info; prompt timed", "'prompt' is not sent"),
        ("set server be/s\u00e9 state ready", "cannot be sent"),
        (r"show info \; show stat", "cannot be sent"),
        ("show env 'HOME'", "cannot be sent"),
        ("x" * 9000, "longer than HAProxy's buffer"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_a_reason(line: str, why: str) -> None:
    with pytest.raises(UsageError, match=re.escape(why)):
        split_line(line)


@pytest.mark.parametrize(
    "reply",
    [
        "Unknown command, but maybe one of the following ones is a better match:\n  show info",
        "Unknown command: 'bogus', but maybe one of the following ones is a better match:",
        "[6]: Unknown command: 'bogus'",
        "[3]: No such backend.",
        "No such server.",
        "No such table",
        "Can't find backend.",
        "Invalid addr 'nope' by 'stats socket command'",
        "IP changed from '127.0.0.1' to '1.2.3.4', problem converting port 'xx' to an int by 'x'",
        "Failed to resume frontend, check logs for precise cause (port conflict?).",
        "Require 'backend/server'.",
        "Required arguments: <table> key <key>",
        "Absolute weight can only be between 0 and 256 inclusive.",
        "Empty weight string empty or preceded by garbage",
        "Permission denied",
        "'set server <srv> state' expects 'ready', 'drain' and 'maint'.",
        "'set ssl cert expects a filename and a certificate as a payload",
        "usage: set server <backend>/<server> addr | agent | agent-addr",
        "health checks are not enabled on this server",
        "Frontend was previously shut down, cannot enable.",
    ],
)
def test_a_known_refusal_is_one(reply: str) -> None:
    assert is_refusal(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "256 (initial 256)",
        "IP changed from '127.0.0.1' to '10.0.0.1', port changed from '1' to '80' by 'x'",
        "no need to change the addr, no need to change the port",
        "All sockets are already enabled.",
        "New server registered.",
        "The following commands are valid at this level:\n  show info : No such thing",
        "Name: HAProxy\nVersion: 2.6.12\nFailedResolutions: 0",
        "1\n# be_id be_name srv_id srv_name",
    ],
)
def test_an_answer_is_no_refusal(reply: str) -> None:
    assert not is_refusal(reply)


# -- completion --------------------------------------------------------------------------------

# Lines of 2.6, 3.0 and 3.2, chosen for their forms.
HELP = """\
The following commands are valid at this level:
  clear counters [all]                    : clear max statistics counters (or all counters)
  disable frontend <frontend>             : temporarily disable specific frontend
  enable frontend <frontend>              : re-enable specific frontend
  enable health                           : enable health checks
  enable server  (DEPRECATED)             : enable a disabled server (use 'set server' instead)
  get map <acl> <value>                   : report the keys and values matching a sample for a map
  get weight <bk>/<srv>                   : report a server's current weight
  set maxconn frontend <frontend> <value> : change a frontend's maxconn setting
  set profiling <what> {auto|on|off}      : enable/disable resource profiling (tasks,memory)
  set server <bk>/<srv> [opts]            : change a server's state, weight, address or ssl
  set severity-output [none|number|string]: set presence of severity level in feedback information
  set weight <bk>/<srv>  (DEPRECATED)     : change a server's weight (use 'set server' instead)
  show acl [@<ver>] <acl>]                : report available acls or dump an acl's contents
  show map [@<ver>] [map]                 : report available maps or dump a map's contents
  show table [<table> [<filter>]*]        : report table usage stats or dump this table's contents
  show errors [<px>] [request|response]   : report last request and/or response errors
  show info [desc|json|typed|float]*      : report information about the running process
  show servers conn [<backend>]           : dump server connections status
  show servers state [<backend>]          : dump volatile server information
  show sess [<id>|all|susp|older <age>]   : report the list of current sessions
  show ssl ocsp-response [[text|base64] id]  : display the IDs of the OCSP responses used in memory
  shutdown frontend <frontend>            : stop a specific frontend
  shutdown sessions server <bk>/<srv>     : kill sessions on a server
  user                                    : lower the level of the current CLI session to user
  help [<command>]                        : list matching or all commands
  prompt [help | n | i | p | timed ]*     : toggle interactive mode with prompt
  quit                                    : disconnect
"""

NAMES = {
    MAPS: ("/etc/hosts.map", "#3"),
    ACLS: ("#-1",),
    TABLES: ("st_src",),
    FRONTENDS: ("tcp-1", "tcp-2", "stats"),
    BACKENDS: ("be_tcp-1", "be_tcp-2", "other"),
    SERVERS.format("be_tcp-1"): ("s1", "s2", "s10"),
}

BACKEND_STARTS = ["be_tcp-1/", "be_tcp-2/", "other/"]
SERVERS_OF_1 = ["be_tcp-1/s1", "be_tcp-1/s2", "be_tcp-1/s10"]


def _names(question: str) -> Sequence[str]:
    return NAMES.get(question, ())


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (
            "",
            [
                "clear",
                "disable",
                "enable",
                "get",
                "set",
                "show",
                "shutdown",
                "user",
                "help",
                "quit",
            ],
        ),
        ("sh", ["show", "shutdown"]),
        ("show servers ", ["conn", "state"]),
        ("show servers s", ["state"]),
        ("show servers state ", ["be_tcp-1", "be_tcp-2", "other"]),
        ("show servers conn be_", ["be_tcp-1", "be_tcp-2"]),
        ("disable frontend ", ["tcp-1", "tcp-2", "stats"]),
        ("enable frontend tcp", ["tcp-1", "tcp-2"]),
        ("shutdown frontend s", ["stats"]),
        ("set maxconn frontend ", ["tcp-1", "tcp-2", "stats"]),
        ("set maxconn frontend tcp-1 ", []),
        ("set server ", BACKEND_STARTS),
        ("set server be_tcp-1/", SERVERS_OF_1),
        ("set server be_tcp-1/s1", ["be_tcp-1/s1", "be_tcp-1/s10"]),
        ("set server nowhere/", []),
        ("set server be_tcp-1/s1 s", ["state", "ssl"]),
        ("set server be_tcp-1/s1 check", ["check-addr", "check-port"]),
        ("set server be_tcp-1/s1 state ", ["ready", "drain", "maint"]),
        ("set server be_tcp-1/s1 addr 10.0.0.1 ", ["port"]),
        ("set  server  be_tcp-1/s1  state  dr", ["drain"]),
        ("enable server be_tcp-1/s2", ["be_tcp-1/s2"]),
        ("enable health o", ["other/"]),
        ("disable server ", []),  # not in this help: not allowed at this level
        ("shutdown sessions server be_tcp-1/", SERVERS_OF_1),
        ("set weight ", BACKEND_STARTS),
        ("get weight be_tcp-1/s1", ["be_tcp-1/s1", "be_tcp-1/s10"]),
        ("show errors ", ["request", "response", *NAMES[FRONTENDS], *NAMES[BACKENDS]]),
        ("show errors tcp-1 ", ["request", "response"]),
        ("show info ", ["desc", "json", "typed", "float"]),
        ("show info desc j", ["json"]),
        ("show sess ", ["all", "susp", "older"]),
        ("set profiling tasks ", ["auto", "on", "off"]),
        ("set severity-output n", ["none", "number"]),
        ("show info; disable frontend t", ["tcp-1", "tcp-2"]),
        ("show map ", ["/etc/hosts.map", "#3"]),
        ("get map #", ["#3"]),
        ("show acl ", ["#-1"]),
        ("show table s", ["st_src"]),
        ("nonsense ", []),
    ],
)
def test_what_may_come_next(before: str, words: list[str]) -> None:
    _, found = candidates(parse_help(HELP), before, _names)
    assert sorted(word for word, _ in found) == sorted(words)


@pytest.mark.parametrize(
    ("before", "word", "text"),
    [
        ("use", "user", "lower the level of the current CLI session to user"),
        ("set ser", "server", "change a server's state, weight, address or ssl"),
        ("set ", "severity-output", "set presence of severity level in feedback information"),
        ("show inf", "info", "report information about the running process"),
        ("sho", "show", ""),  # said of none of its commands alone
        ("set server ", "be_tcp-1/", ""),
    ],
)
def test_the_text_beside_a_candidate_is_what_haproxy_says(
    before: str, word: str, text: str
) -> None:
    _, found = candidates(parse_help(HELP), before, _names)
    assert dict(found)[word] == text


def test_usage_lines_become_elements() -> None:
    assert parse_usage("  show info [desc|json]*   ") == (
        Element(("show",)),
        Element(("info",)),
        Element(("desc", "json"), optional=True, repeated=True),
    )
    # Intricate ones stand for any word: nothing wrong is offered.
    assert parse_usage("show x [[text|base64] id]")[2].accepts("anything")
    assert parse_usage("show acl [@<ver>] <acl>]")[3].accepts("#0")
    assert parse_usage("") == ()


def test_names_are_read_by_column() -> None:
    assert parse_names("# pxname,svname\ntcp-1,FRONTEND\nb,FRONTEND\n") == ("tcp-1", "b")
    state = "1\n# be_id be_name srv_id srv_name srv_addr\n3 a 1 s1 ::1\n3 a 2 s2 -\n"
    assert parse_names(state) == ("s1", "s2")
    maps = (
        "# id (file) description\n"
        "0 (/etc/a b.map) pattern loaded from file\n-1 () acl 'src' file 'x' line 9\n"
    )
    assert parse_names(maps) == ("/etc/a b.map", "#-1")
    assert parse_names("# table: st_src, type: ip, size:100, used:0\n") == ("st_src",)
    assert parse_names("Can't find backend.") == ()


# -- the guard ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "show stat",
        "@1 show stat",
        "@!4711 show info",
        "@1",
        "@master",
        "get map #0 x",
        "help set",
        "quit",
        "set severity-output number",
        "set timeout cli 1h",
        "set anon on",
        "experimental-mode on",
        "wait 5s",
    ],
)
def test_looking_changes_nothing(command: str) -> None:
    assert not changes(command)


@pytest.mark.parametrize(
    "command",
    [
        "set server be_tcp-1/s1 state drain",
        "@1 set server be_tcp-1/s1 state drain",
        "@!4711 clear counters all",
        "disable frontend tcp-1",
        "shutdown sessions server be_tcp-1/s1",
        "set anon global-key 1",
        "set maxconn global 9",
        "reload",
        "showy",
        "publish backend x",
        "debug dev exit",
    ],
)
def test_what_is_not_known_to_be_harmless_is_guarded(command: str) -> None:
    assert changes(command)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("shutdown frontend tcp-1", "until HAProxy restarts"),
        ("@1 set maxconn frontend tcp-1 0", "#2726"),
        ("set maxconn frontend tcp-1 10", ""),
        ("hard-reload", "never does"),
        ("shutdown session 0x1", "haproxy-sidecar kick"),
        ("disable frontend tcp-1", ""),
    ],
)
def test_what_is_worse_than_it_looks(command: str, text: str) -> None:
    assert text in caution(command)
    assert bool(caution(command)) == bool(text)


def test_what_becomes_of_a_change() -> None:
    assert "will revert port 6620 within 30s" in prospect(
        "set server be_tcp-6620/s1 weight 0", frozenset(), 30.0
    )
    assert "haproxy-sidecar hold 13306" in prospect("disable frontend tcp-13306", frozenset(), 5.0)
    held = prospect("@1 disable frontend tcp-1", frozenset({1}), 5.0)
    assert held == "port 1 is held, so the change stays until `haproxy-sidecar release 1`"
    assert not prospect("clear counters all", frozenset(), 5.0)


# -- tables ------------------------------------------------------------------------------------

STAT = """\
# pxname,svname,qcur,scur,status,weight,lastchg,addr,bogus,
tcp-1,FRONTEND,,2,OPEN,,,,,
be_tcp-1,s1,0,2,no check,256,9,10.0.0.1:80,,
be_tcp-1,s2,0,0,MAINT,256,9,127.0.0.1:1,,
be_tcp-1,s3,0,1,MAINT,256,9,127.0.0.1:1,,
be_tcp-1,BACKEND,0,2,UP,256,9,,,
tcp-2,FRONTEND,,0,STOP,,,,,
be_tcp-2,s1,0,0,MAINT,256,9,127.0.0.1:1,,
be_tcp-2,BACKEND,0,0,DOWN,0,9,,,
mine,FRONTEND,,0,STOP,,,,,
"""


def _laid_out(command: str, reply: str, width: int | None = None, **options: bool) -> list[str]:
    table = read_table(command, reply, {(1, "s1"): "web-0"})
    assert table is not None
    return lay_out(table, width, all_rows=options.get("all_rows", False))


def test_a_table_of_show_stat() -> None:
    assert _laid_out("show stat", STAT) == [
        "pxname    svname    pod    addr         status    scur  weight  lastchg",
        "tcp-1     FRONTEND                      OPEN         2",
        "be_tcp-1  s1        web-0  10.0.0.1:80  no check     2     256        9",
        "be_tcp-1  s3               127.0.0.1:1  MAINT        1     256        9",
        "be_tcp-1  BACKEND                       UP           2     256        9",
        "mine      FRONTEND                      STOP         0",
        "(4 unused slots and ports hidden; `:all on` shows them)",
    ]
    assert len(_laid_out("@1 show stat", STAT, all_rows=True)) == 10


def test_a_table_is_no_wider_than_the_terminal() -> None:
    for width in range(20, 100):
        lines = _laid_out("show stat", STAT, width, all_rows=True)
        assert all(len(line) <= width for line in lines)
    narrow = _laid_out("show stat", STAT, 30, all_rows=True)
    assert narrow[0] == "pxname    svname    pod"
    assert narrow[-1] == "(no room for addr, status, s…)"


def test_a_table_of_show_servers_state() -> None:
    columns = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port extra"
    rows = (
        "1 be_tcp-1 1 s1 ::1 2 0 80 -\n1 be_tcp-1 2 s2 ::2 0 0 80 -\n1 be_tcp-1 3 s3 ::3 2 8 80 -"
    )
    parked = "2 be_tcp-2 1 s1 127.0.0.1 0 1 1 -"
    lines = _laid_out("show servers state", f"1\n{columns}\n{rows}\n{parked}\n")
    assert [line.split()[:6] for line in lines[1:4]] == [
        ["be_tcp-1", "s1", "web-0", "::1", "80", "ready"],
        ["be_tcp-1", "s2", "::2", "80", "down", "1"],
        ["be_tcp-1", "s3", "::3", "80", "drain", "1"],
    ]
    assert lines[4] == "(1 unused slots and ports hidden; `:all on` shows them)"
    assert "extra" not in lines[0]


def test_a_table_of_show_info() -> None:
    reply = "Name: HAProxy\nVersion: 3.0\nUptime: 0d 0h01m\nnode: a: b\n"
    assert _laid_out("show info", reply) == [
        "Name     HAProxy",
        "Version  3.0",
        "Uptime   0d 0h01m",
        "node     a: b",
    ]
    assert _laid_out("show info", reply, 40) == [
        "Name     HAProxy   Uptime   0d 0h01m",
        "Version  3.0       node     a: b",
    ]


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("show stat", "Unknown command"),
        ("show stat typed", "F.1.0.1:.."),
        ("show stat json", "[]"),
        ("show info json", "[]"),
        ("show servers state x", "Can't find backend."),
        ("show sess", "Permission denied"),
        ("show sess all", "0x1: [date] id=2 proto=tcpv4 source=1.2.3.4:5"),
        ("get weight be_tcp-1/s1", "1 (initial 1)"),
    ],
)
def test_what_is_no_table(command: str, reply: str) -> None:
    assert read_table(command, reply, {}) is None
