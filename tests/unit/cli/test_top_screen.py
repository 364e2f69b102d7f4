"""What keys do in `top`, and what is on the screen then."""

import json
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reported import calm, crowded, host, port, refused, report, server, troubled

from sidecar.admin.updates import Updates
from sidecar.cli.top.desk import KEYS, Action, Desk
from sidecar.cli.top.fitted import cells, clean, fit, folded
from sidecar.cli.top.memory import Memory, read_update
from sidecar.cli.top.paint import paint
from sidecar.reporting.reports import AttemptsReport, Report

NOW = 100.0

#: What a question is about: nothing that it looks into.
PLAN = object()


def desk_of(found: Report, kicks: str = "") -> Desk:
    desk = Desk(kicks)
    data = json.loads(json.dumps(Updates("a").since(found, "")))
    desk.take(Memory().take(read_update(data), NOW), NOW)
    return desk


def shown(desk: Desk, width: int = 80, height: int = 24, now: float = NOW) -> list[str]:
    return ["".join(text for _, text in line) for line in paint(desk, width, height, now)]


def chosen(desk: Desk) -> str:
    (line,) = [
        "".join(text for _, text in line)
        for line in paint(desk, 80, 24, NOW)
        if line[0][0] == "class:chosen"
    ]
    return " ".join(line.split())


def press(desk: Desk, *keys: str) -> Action | None:
    action = None
    for key in keys:
        action = desk.press(key, NOW)
    return action


# -- the screen ----------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [calm(), troubled(), crowded(300), report()])
@pytest.mark.parametrize(
    ("width", "height"), [(80, 24), (200, 60), (130, 24), (60, 10), (20, 5), (10, 3), (1, 1)]
)
def test_it_is_as_large_as_the_terminal(found: Report, width: int, height: int) -> None:
    desk = desk_of(found)
    for keys in (("G",), ("enter",), ("S",), ("/", "k"), ("enter", "?"), ("q", "p")):
        press(desk, *keys)
        lines = shown(desk, width, height)
        assert len(lines) == height
        assert {cells(line) for line in lines} == {width}, keys
    desk.ask("end 3 sessions on port 30000?", PLAN)
    assert shown(desk, 40, 8)[-1].rstrip().endswith(" [y/N]")


def test_head_problems_and_rows() -> None:
    lines = [line.rstrip() for line in shown(desk_of(troubled()))]
    assert lines[:4] == [
        "router   wzh-router-1  not converged; failing ports: [30015]",
        "HAProxy  3.2.4, PID 4711, up 3d, 120 connections",
        "source   kubernetes https://10.96.0.1, changed 12s ago",
        "pool     5 open, 5 claimed, 9995 free ports; 9 used, 79991 free slots",
    ]
    assert lines[4] == "\u2717 /etc/routes/torn.yaml, line 2: invalid YAML: expected ',' or ']'"
    assert lines[5] == "\u2717 30010 team-a/search: no endpoints"
    assert lines[6] == "  and 21 more problems; p shows their rows"
    assert lines[7].split()[:2] == ["NAME", "STATE"]
    assert lines[9].split()[:5] == ["30001", "open", "team-b/kafka", "2/0/0", "15"]


def test_a_wide_terminal_has_more_beside_each_other() -> None:
    lines = shown(desk_of(calm()), 200, 60)
    assert "converged" in lines[0]
    assert "HAProxy  3.2.4" in lines[0]
    assert "IN/S" in lines[2]


def test_what_is_not_known_is_said() -> None:
    desk = Desk()
    assert "asking the sidecar" in shown(desk)[1]
    desk.miss("nothing answers at 127.0.0.1:8405: Connection refused")
    assert shown(desk)[1].startswith("no answer, asking again: nothing answers at 127.0.0.1:8405")
    assert press(desk, "w", "K", "s", "enter", "j", "G") is None
    desk = desk_of(calm())
    desk.miss("nothing answers")
    lines = shown(desk, now=NOW + 12)
    assert lines[4].startswith("no answer for 12s, asking again: nothing answers")
    assert any(line.split()[:1] == ["30000"] for line in lines), "what was known stays"
    away = report(haproxy=None, converged=False, unready="HAProxy is away")
    assert "HAProxy  away" in shown(desk_of(away))[1]
    assert "not converged: HAProxy is away" in shown(desk_of(away))[0]
    assert "no Route has a port or host" in "\n".join(shown(desk_of(away)))
    desk = desk_of(calm())
    press(desk, "p")
    assert "no row has a problem" in "\n".join(shown(desk))


def test_what_is_asked_is_not_cut_off() -> None:
    desk = desk_of(crowded(100))
    press(desk, "G")
    route = "a-namespace-with-a-long-name/a-route-with-a-long-name"
    desk.ask(f"end 12 sessions on port 30000 ({route}), server s12, at most 50 per second?", PLAN)
    lines = shown(desk)
    assert " ".join(line.strip() for line in lines[-3:]) == f"{desk.question} [y/N]"
    assert lines[-4].startswith("  www.example/cart"), "what is chosen is seen"
    press(desk, "n")
    desk.say("x" * 100 + " " + "word " * 200, bad=True)
    lines = shown(desk, 60, 10)
    assert [line.rstrip() for line in lines[-5:-3]] == ["x" * 60, "x" * 40 + " word" * 4]
    assert set(lines[-1].split()) == {"word"}
    assert {len(line) for line in lines} == {60}


def test_a_question_that_is_cut_has_its_end() -> None:
    """Else nobody would know that a key is waited for."""
    desk = desk_of(calm())
    desk.ask("end 9 sessions: " + ", ".join(f"1 on server{n}" for n in range(99)) + "?", PLAN)
    lines = shown(desk, 40, 8)
    assert lines[-4].startswith("end 9 sessions: 1 on server0")
    assert lines[-1].rstrip().endswith("1 on server98? [y/N]")


def test_what_is_waited_for_is_said_instead_of_a_message() -> None:
    desk = desk_of(calm())
    desk.say("no session was ended")
    desk.wait("asking why 30000")
    assert shown(desk)[-1].startswith("asking why 30000; Esc does not wait")


def test_ages_of_the_head_count_on() -> None:
    lines = shown(desk_of(calm()), now=NOW + 86400)
    assert "up 4d," in lines[1]
    assert "changed 1d 12s ago" in lines[2]


def test_a_source_that_has_not_synced_is_bad() -> None:
    found = calm()
    missing = replace(found.source, missing=("Route",))
    line = paint(desk_of(replace(found, source=missing)), 80, 24, NOW)[2]
    assert ("class:bad", "not synced yet: Route") in line


def test_the_column_that_rows_are_sorted_by_is_marked() -> None:
    desk = desk_of(calm())
    for key, title in (("N", "NAME"), ("S", "SESS"), ("V", "SERVERS")):
        press(desk, key)
        marked = [
            text.strip()
            for line in paint(desk, 80, 24, NOW)
            for style, text in line
            if style == "class:sorted"
        ]
        assert marked == [title]


def test_errors_are_red() -> None:
    lost = AttemptsReport(60.0, 900, 12, 30, 4)
    desk = desk_of(
        report(port(1), port(2, attempts=replace(lost, errors=0)), port(3, attempts=lost))
    )
    red = [line for line in paint(desk, 80, 24, NOW) if ("class:bad", "   12") in line]
    assert [line[1][1].strip() for line in red] == ["3"]
    styles = {style for line in paint(desk, 80, 24, NOW) for style, text in line if text == "    0"}
    assert "class:bad" not in styles


def test_servers_with_all_that_is_known() -> None:
    one = server(1, address="10.1.2.3:80", sessions=3, check="L4OK", pod="web-0", node="n1")
    down = server(2, address="10.1.2.4:80", state="down", sessions=None, check="", pod=None)
    desk = desk_of(report(port(30000, servers=(one, down))))
    press(desk, "enter")
    text = shown(desk)
    assert "    s1  10.1.2.3:80  ready  3 sess  L4OK  web-0 on n1" in [
        line.rstrip() for line in text
    ]
    assert any(line.startswith("    s2  10.1.2.4:80  down   - sess") for line in text)
    press(desk, " ")
    assert "10.1.2.3" not in "\n".join(shown(desk))


EVIL = "\x1b[2J\x1b]0;pwned\x07\r\n\x9b31m\u202egnp.exe\u2028\x00"


def test_nothing_of_a_route_is_a_control_character() -> None:
    found = report(
        port(
            30000,
            route=f"demo/{EVIL}",
            message=EVIL,
            reason=EVIL,
            failure=EVIL,
            drift=EVIL,
            servers=(server(1, pod=EVIL, node=EVIL, check=EVIL, state=EVIL),),
        ),
        hosts=(host(f"x{EVIL}", path=EVIL),),
        waiting=(refused(f"demo/{EVIL}", EVIL, EVIL),),
        problems=(EVIL,),
        router_name=EVIL,
        unready=EVIL,
        converged=False,
    )
    desk = desk_of(found)
    press(desk, "enter", "/", "d")
    desk.paste(EVIL, NOW)
    desk.say(EVIL)
    desk.miss(EVIL)
    for keys in ((), ("x",), ("escape",)):
        press(desk, *keys)
        for width in (80, 200):
            assert all(line.isprintable() for line in shown(desk, width, 40))
    desk.show(EVIL, [EVIL])
    assert all(line.isprintable() for line in shown(desk))
    desk.ask(EVIL, PLAN)
    assert all(line.isprintable() for line in shown(desk))


@given(st.text(), st.integers(0, 30), st.booleans())
def test_fitted(text: str, width: int, right: bool) -> None:
    found = fit(text, width, right=right)
    assert cells(found) == width
    assert found.isprintable()


@pytest.mark.parametrize(
    ("text", "width", "found"),
    [
        ("web", 5, "web  "),
        ("website", 5, "webs\u2026"),
        ("a\tb\x1b", 5, "a?b? "),
        ("\u4e2d\u6587\u5b57", 5, "\u4e2d\u6587\u2026"),
        ("\u4e2d\u6587\u5b57", 4, "\u4e2d\u2026 "),
        ("e\u0301t\u00e9", 4, "e\u0301t\u00e9 "),
        # One syllable, of three letters that a terminal puts together.
        ("\u1112\u1161\u11ab", 3, "\u1112\u1161\u11ab "),
        ("x", 0, ""),
    ],
)
def test_fitted_texts(text: str, width: int, found: str) -> None:
    assert fit(text, width) == found
    assert clean(found) == found


@given(st.text(), st.integers(1, 30))
def test_folded(text: str, width: int) -> None:
    lines = folded(text, width)
    assert all(line.isprintable() for line in lines)
    # A wide character alone may be too wide; then nothing else is in its line.
    assert all(cells(line) <= width or len(line.strip()) == 1 for line in lines)
    # Nothing is lost, but spaces where it was folded.
    assert "".join(lines).replace(" ", "") == clean(text).replace(" ", "")


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("", 10, [""]),
        ("one two three", 9, ["one two", "three"]),
        ("one two three", 7, ["one two", "three"]),
        ("onetwothree four", 6, ["onetwo", "three", "four"]),
        ("onetwo  ", 6, ["onetwo"]),
        ("K   end them all; asks first", 14, ["K   end them", "    all; asks", "    first"]),
        ("a-long-key   end them all", 14, ["a-long-key", "end them all"]),
        ("\u4e2d\u6587\u5b57", 5, ["\u4e2d\u6587", "\u5b57"]),
        ("\u4e2d\u6587", 1, ["\u4e2d", "\u6587"]),
    ],
)
def test_folded_texts(text: str, width: int, lines: list[str]) -> None:
    assert folded(text, width) == lines


def test_names_are_as_wide_as_a_terminal_makes_them() -> None:
    wide = "\u4e2d\u6587.example"
    desk = desk_of(report(hosts=(host(wide, route="demo/web"),)))
    assert (desk.table.name_width, desk.table.route_width) == (12, 8)
    assert any(f"  {wide} open" in line for line in shown(desk))


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_help_is_whole(width: int) -> None:
    desk = desk_of(calm())
    press(desk, "?")
    text = " ".join(" ".join(shown(desk, width, 60)).split())
    assert all(f"{keys} {what}" in text for keys, what in KEYS)
    assert "\u2026" not in text
    assert shown(desk, 80, 24)[-1].startswith("20 of 20 lines"), "all of it is seen at once"


def test_an_expanded_problem_is_whole() -> None:
    why = "cannot be reconciled: " + " ".join(f"word{number}" for number in range(30))
    desk = desk_of(report(port(1, failure=why[22:]), port(2)))
    press(desk, "enter")
    lines = shown(desk, 80, 24)
    first = next(place for place, line in enumerate(lines) if line.startswith("    \u2717 cannot"))
    below = lines[first + 1 : first + 4]
    assert all(line.startswith("      word") for line in below)
    assert why in " ".join(" ".join(lines[first : first + 4]).split())
    # Each of its lines can be chosen, and is known again.
    press(desk, "j", "j")
    text = chosen(desk)
    assert text.startswith("word")
    assert desk.known
    desk.take(desk.known, NOW)
    assert chosen(desk) == text
    # A larger terminal has fewer.
    assert sum("word" in line for line in shown(desk, 200, 60)) < sum(
        "word" in line for line in lines
    )


def test_5000_rows_are_no_work() -> None:
    desk = desk_of(crowded(5000))
    began = time.process_time()
    for key in (*"jjjj", "pagedown", "G", "g", "S", "r", "/", *"service-43", "enter"):
        press(desk, key)
        shown(desk, 200, 60)
    # 24 keys take 0.15 s of a quiet machine: each as long as a person does not see.
    assert time.process_time() - began < 24 * 0.1


# -- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (("j", "down"), "30002"),
        (("j", "k", "up"), "30000"),
        (("G",), "www.example/cart"),
        (("end", "g"), "30000"),
        (("G", "home"), "30000"),
        (("pagedown",), "www.example/cart"),
        (("G", "pageup"), "30000"),
        (("S",), "30004"),
        (("S", "r"), "30000"),
        ((">",), "30000"),
        (("<", "r"), "30004"),
        (("/", *"redis"), "30003"),
        (("/", *"rediss", "backspace", "enter", "j"), "30003"),
        (("/", *"redis", "escape", "k"), "30002"),
        (("/", *"redis", "enter", "escape"), "30003"),
        (("/", *"redis", "ctrl-u"), "30003"),
        (("/", *"example", "down"), "shop.example"),
        (("x", "\x1b", "f13"), "30000"),
    ],
)
def test_keys(keys: tuple[str, ...], name: str) -> None:
    desk = desk_of(calm())
    shown(desk)
    press(desk, *keys)
    assert chosen(desk).split()[0] == name


def test_a_filter_is_typed_letter_by_letter() -> None:
    desk = desk_of(calm())
    press(desk, "/", *"qKw")
    assert desk.table.filter == "qKw", "no letter is a command then"
    press(desk, "backspace", "backspace", "backspace")
    assert shown(desk)[-1].strip() == "/"
    press(desk, "backspace")
    assert "help" in shown(desk)[-1]
    press(desk, "/")
    desk.paste("red\nis", NOW)
    assert desk.table.filter == "red is"
    press(desk, "enter")
    desk.paste("qqq", NOW)
    assert desk.table.filter == "red is", "pasted text is no command"
    assert "/red is (1 of 8)" in shown(desk)[-1]


@pytest.mark.parametrize("what", ["question", "wait", "text"])
def test_what_is_pasted_answers_nothing(what: str) -> None:
    desk = desk_of(calm())
    press(desk, "/")
    if what == "question":
        desk.ask("end 1 session?", PLAN)
    elif what == "wait":
        desk.wait("listing the sessions")
    else:
        desk.show("a text", ["line"])
    question = desk.question
    desk.paste("y", NOW)
    assert (desk.question, desk.table.filter) == (question, "")


@pytest.mark.parametrize(
    ("keys", "action"),
    [
        ("w", Action("why", "30000")),
        ("s", Action("sessions", "30000")),
        ("K", Action("kick", "30000")),
        (("enter", "j", "K"), Action("kick", "30000", "s1")),
        (("enter", "j", "s"), Action("sessions", "30000")),
        (("enter", "j", "w"), Action("why", "30000")),
        ("q", Action("quit")),
        (("/", "ctrl-c"), Action("quit")),
        (("?", "ctrl-c"), Action("quit")),
        (("?", "q"), None),
        (("?", "K"), None),
    ],
)
def test_what_is_done_elsewhere(keys: tuple[str, ...], action: Action | None) -> None:
    assert press(desk_of(report(port(30000))), *keys) == action


def test_sessions_are_known_by_port() -> None:
    desk = desk_of(report(hosts=(host("a.test"), host("b.test", port=30001))))
    assert press(desk, "w") == Action("why", "demo/web")
    assert press(desk, "K") is None
    assert "sessions are known by port; choose a port" in shown(desk)[-1]
    press(desk, "j", "s")
    assert "choose port 30001, which it shares" in shown(desk)[-1]
    press(desk, "j")
    assert "help" in shown(desk)[-1]
    desk = desk_of(report(port(1)), "run top there")
    assert press(desk, "K") is None
    assert "run top there" in shown(desk)[-1]


@pytest.mark.parametrize("key", ["y", "Y"])
def test_only_y_is_yes(key: str) -> None:
    desk = desk_of(report(port(1)))
    desk.ask("end 1 session on port 1?", PLAN)
    assert "end 1 session on port 1?" in shown(desk)[-1]
    assert press(desk, key) == Action("end", plan=PLAN)
    assert press(desk, key) is None, "once"


@pytest.mark.parametrize("key", ["n", "enter", "escape", "j", "K", "q", " "])
def test_any_other_key_is_no(key: str) -> None:
    desk = desk_of(report(port(1)))
    desk.ask("end 1 session on port 1?", PLAN)
    assert press(desk, key) is None
    assert "no session was ended" in shown(desk)[-1]
    assert press(desk, "y") is None


def test_keys_are_not_kept_for_a_question_that_is_still_to_come() -> None:
    desk = desk_of(report(port(1), port(2)))
    wait = desk.wait("listing the sessions")
    assert "listing the sessions; Esc does not wait" in shown(desk)[-1]
    assert press(desk, "y", "j", "K", "enter") is None
    assert chosen(desk).split()[0] == "1"
    assert desk.arrived(wait)
    desk.ask("end 1 session?", PLAN)
    assert desk.question
    press(desk, "n")
    late = desk.wait("again")
    press(desk, "escape")
    again = desk.wait("and again")
    assert not desk.arrived(late), "nobody waits for it any more"
    assert desk.arrived(again)
    assert not desk.arrived(again)


def test_one_end_at_a_time() -> None:
    desk = desk_of(report(port(1)))
    desk.ending = "ended 50 of 90"
    assert "ended 50 of 90" in shown(desk)[-1]
    assert press(desk, "K") is None
    assert "still being ended" in shown(desk)[-1]
    assert press(desk, "s") == Action("sessions", "1")


def test_a_text_is_scrolled() -> None:
    desk = desk_of(calm())
    desk.show("a text", [f"line {number}" for number in range(50)])
    assert shown(desk)[1].startswith("line 0 ")
    assert "22 of 50 lines" in shown(desk)[-1]
    press(desk, "pagedown")
    assert shown(desk)[1].startswith("line 21 ")
    press(desk, "G")
    assert shown(desk)[-2].startswith("line 49 ")
    press(desk, "k")
    assert shown(desk)[-2].startswith("line 48 ")
    press(desk, "g")
    assert shown(desk)[1].startswith("line 0 ")
    press(desk, "escape")
    assert "NAME" in "\n".join(shown(desk))
