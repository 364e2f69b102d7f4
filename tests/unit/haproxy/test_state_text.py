"""HAProxy's servers, put together again from what it showed."""

import pytest

from sidecar.common.errors import RemoteProtocolError
from sidecar.haproxy.state_text import StateText

HEAD = "1\n# be_id be_name srv_id srv_name srv_addr\n"


def rows(name: str, mark: str = "x") -> str:
    return "".join(f"{name[-1]} {name} {n} s{n} {mark}\n" for n in (1, 2))


def table(name: str, mark: str = "x") -> str:
    return f"{HEAD}{rows(name, mark)}\n"


def shown(*names: str) -> StateText:
    state = StateText()
    for name in names:
        state.put(name, table(name))
    return state


def test_it_is_what_was_shown() -> None:
    assert StateText().text == StateText().of(["be1"]) == ""
    state = shown("be1", "be2", "be3")
    assert state.text == f"{HEAD}{rows('be1')}{rows('be2')}{rows('be3')}"
    assert state.of(["be3", "be9", "be1"]) == f"{HEAD}{rows('be3')}{rows('be1')}"


def test_a_backend_is_as_it_was_last_shown() -> None:
    state = shown("be1", "be2", "be3")
    for mark in ("y", "z"):
        state.put("be2", table("be2", mark))
    assert state.text == f"{HEAD}{rows('be1')}{rows('be2', 'z')}{rows('be3')}"


@pytest.mark.parametrize("reply", ["Can't find backend.\n", f"{HEAD}\n"])
def test_one_that_haproxy_does_not_have_is_gone(reply: str) -> None:
    state = shown("be1", "be2")
    state.put("be2", reply)
    state.put("be3", reply)
    assert state.text == f"{HEAD}{rows('be1')}"
    assert state.of(["be2"]) == HEAD


def test_rows_of_another_haproxy_do_not_mix() -> None:
    state = shown("be1", "be2")
    head = HEAD.replace("srv_addr", "srv_addr srv_more")
    state.put("be2", f"{head}{rows('be2')}\n")
    assert state.text == f"{head}{rows('be2')}"


@pytest.mark.parametrize("reply", ["", "Unknown command: show\n", "2\n# be_id\n", "1\n"])
def test_what_is_no_reply_is_refused(reply: str) -> None:
    state = shown("be1")
    with pytest.raises(RemoteProtocolError, match="'show servers state'"):
        state.put("be1", reply)
    assert state.text == f"{HEAD}{rows('be1')}"
