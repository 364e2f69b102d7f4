"""`sidecar.control.commit_mark`: what is known of a commit that may not be touched any more."""

from pathlib import Path

import pytest
from peers import PATIENCE, Connection, MakeClient, MakePeer, healthy

from sidecar.common.errors import DisconnectedError
from sidecar.control.commit_mark import REMEDY, CommitMark
from sidecar.haproxy.certificates import Commit

FILE = "/run/authorities/be_re_1.pem"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "servers.state"


def marked(state: Path) -> list[str]:
    return sorted(path.name for path in state.parent.glob("committing-*"))


def test_only_what_was_interrupted_here_is_not_touched(state: Path) -> None:
    marks = CommitMark(state)
    assert marks.problem("ca-file", FILE) == "", "somebody else's"
    marks.begin("ca-file")
    assert marked(state) == ["committing-ca-file"]
    for known in (marks, CommitMark(state)):
        assert known.problem("ca-file", FILE) == REMEDY
        assert known.problem("ca-file", None) == "", "there is none in HAProxy"
        assert known.problem("crl-file", FILE) == "", "of another store"
        assert known.settle("ca-file", FILE) == REMEDY
    assert marked(state) == ["committing-ca-file"]
    # HAProxy was restarted.
    assert marks.settle("ca-file", None) == ""
    assert marks.problem("ca-file", FILE) == ""
    assert marked(state) == []


def hangs_at_once(connection: Connection) -> None:
    connection.greet()
    connection.listen()


def hangs_at_the_second_command(connection: Connection) -> None:
    connection.greet()
    connection.answer(1)
    connection.listen()


def test_a_mark_is_there_while_no_answer_is(
    state: Path, make_peer: MakePeer, make_client: MakeClient
) -> None:
    commit, other = Commit("ca-file", FILE), Commit("cert", FILE)
    client = make_client(make_peer(healthy).address)
    client.marks = CommitMark(state)
    client.apply([commit])
    assert marked(state) == []

    # Who answers nothing was not asked for it.
    client = make_client(make_peer(hangs_at_once).address, PATIENCE)
    client.marks = CommitMark(state)
    with pytest.raises(DisconnectedError):
        client.apply([commit])
    assert marked(state) == []

    client = make_client(make_peer(hangs_at_the_second_command).address, PATIENCE)
    client.marks = CommitMark(state)
    with pytest.raises(DisconnectedError):
        client.apply([other, other])
    assert marked(state) == [], "one that takes no time"
    with pytest.raises(DisconnectedError):
        client.apply([commit])
    assert marked(state) == ["committing-ca-file"]
