"""Maps of a real HAProxy: what each command does to them, and what the writer makes of them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from mapped import KEY, UNIT, Maps, many, owner_of
from peers import Connection, MakeClient, MakePeer
from stand import Stand, await_

from sidecar.common.errors import (
    CommandRefusedError,
    DisconnectedError,
    LocalProtocolError,
    RemoteProtocolError,
)
from sidecar.control.map_writer import (
    EntryFailure,
    EntryNotShownError,
    MapFile,
    WrittenMap,
    read_map,
    write_map,
)
from sidecar.haproxy.dialect import Dialect
from sidecar.haproxy.maps import (
    AddEntry,
    ClearMap,
    CommitMap,
    DeleteEntry,
    FillMap,
    MapEntry,
    ObservedMap,
    PrepareMap,
    SetEntry,
    parse_map_file,
    prepared_version,
)
from sidecar.haproxy.operations import Operation
from sidecar.model.desired import ClaimKey, Unit

UNKNOWN = "Unknown map identifier. Please use #<id> or <file>."

#: Everything that a value may have.
ODD = {
    "k1": "two words",
    "k2": "a  b   c",
    "k3": "max-age=31536000; includeSubDomains",
    "k4": "\\1\\",
    "k5": "<< x <<",
    "k6": "\"quoted\" 'twice'",
    "k7": "#no comment",
    "k8": "+",
    "k9": "%[src]",
    "$%&()*+,-./:=?@[]^_`{|}~!": "> >",
    "0x1": "0x2 3",
}


@pytest.fixture
def maps(make_stand: Callable[..., Stand]) -> Maps:
    return Maps(make_stand(pools=[{"ports": ["30000"], "slots": 1}]))


# -- operations --------------------------------------------------------------------------------


def test_one_entry_comes_changes_and_goes(maps: Maps) -> None:
    file = maps.routes
    assert maps.served("/a") is None
    assert maps.apply(maps.add("/a?", "be_1")) == [""]
    assert maps.served("/a") == "be_1"
    assert maps.apply(SetEntry(UNIT, KEY, file, "/a?", "be_2")) == [""]
    assert maps.served("/a") == "be_2"
    assert maps.apply(DeleteEntry(UNIT, KEY, file, "/a?")) == [""]
    assert maps.served("/a") is None
    assert maps.shows({})


@pytest.mark.parametrize(("entry", "value"), ODD.items())
def test_any_value_arrives_whole(maps: Maps, entry: str, value: str) -> None:
    assert maps.apply(maps.add(entry, value)) == [""]
    assert maps.shows({entry: value})
    assert maps.apply(DeleteEntry(UNIT, KEY, maps.routes, entry)) == [""]
    assert maps.shows({})


def test_what_haproxy_refuses(maps: Maps) -> None:
    file, absent = maps.routes, f"{maps.routes}x"
    maps.apply(maps.add("/a?", "be_1"))
    refused: list[tuple[Operation, str]] = [
        (AddEntry(UNIT, KEY, absent, "/a?", "be"), UNKNOWN),
        (AddEntry(UNIT, KEY, absent, "/a?", "b e"), UNKNOWN),
        (SetEntry(UNIT, KEY, absent, "/a?", "be"), UNKNOWN),
        (DeleteEntry(UNIT, KEY, absent, "/a?"), UNKNOWN),
        (PrepareMap(absent), UNKNOWN),
        (SetEntry(UNIT, KEY, file, "/b?", "be"), "entry not found."),
        (FillMap(file, 9, b"a b"), "Version number in the future"),
        (CommitMap(file, 9), "Version number out of range."),
        (ClearMap(absent, 9), UNKNOWN),
    ]
    outcomes = maps.client.apply([operation for operation, _ in refused])
    for (operation, text), outcome in zip(refused, outcomes, strict=True):
        assert isinstance(outcome, CommandRefusedError), operation
        assert outcome.reply.startswith(text)
    assert maps.shows({"/a?": "be_1"})


def test_a_key_that_is_gone_counts_as_deleted(maps: Maps) -> None:
    assert maps.apply(DeleteEntry(UNIT, KEY, maps.routes, "/a?")) == ["Key not found."]
    (outcome,) = maps.client.apply([DeleteEntry(UNIT, KEY, maps.routes, "/a?")])
    assert isinstance(outcome, str)


def test_the_first_of_two_entries_is_found(maps: Maps) -> None:
    maps.apply(maps.add("/a?", "be_1"), maps.add("/a?", "be_2"))
    assert maps.seen() == ObservedMap({"/a?": "be_1"}, frozenset({"/a?"}))
    assert maps.served("/a") == "be_1"


def test_a_version_is_seen_from_its_commit_on(maps: Maps) -> None:
    file = maps.routes
    maps.apply(maps.add("/a?", "be_1"))
    version = prepared_version(maps.apply(PrepareMap(file))[0])
    assert maps.apply(FillMap(file, version, b"/a? be_2\n/b? be_3")) == [""]
    assert (maps.served("/a"), maps.served("/b")) == ("be_1", None)
    assert maps.apply(CommitMap(file, version)) == [""]
    assert (maps.served("/a"), maps.served("/b")) == ("be_2", "be_3")
    assert maps.apply(CommitMap(file, version)) == ["Version number out of range."]


def test_an_abort_leaves_nothing(maps: Maps) -> None:
    maps.apply(maps.add("/a?", "be_1"))
    version = maps.open_version(many(1000, "x"))
    assert maps.uncommitted() == 1000
    assert maps.apply(ClearMap(maps.routes, version)) == [""]
    await_(lambda: maps.uncommitted() == 0, "the version is gone")
    assert maps.shows({"/a?": "be_1"})


# -- the writer --------------------------------------------------------------------------------


def test_a_map_becomes_as_desired_and_stays(maps: Maps) -> None:
    for desired in ({"/a?": "be_1", "/b?": "be_2"}, {"/b?": "be_3", "/c?": "be_1"}, ODD, {}):
        for _ in range(2):
            assert maps.write(desired) == WrittenMap(desired, {})
            assert maps.shows(desired)


def test_what_others_change_is_found_and_repaired(maps: Maps) -> None:
    desired = {"/a?": "be_1", "/b?": "be_2", "/c?": "be_3"}
    maps.write(desired)
    file = maps.routes
    for by_hand, found in (
        (f"set map {file} /a? be_9", {"/a?"}),
        (f"del map {file} /b?", {"/b?"}),
        (f"add map {file} /d? be_9", {"/d?"}),
        (f"add map {file} /c? be_9", {"/c?"}),
        (f"clear map {file}", set(desired)),
    ):
        maps.by_hand(by_hand)
        assert maps.seen().wrong(desired) == found
        assert maps.write(desired) == WrittenMap(desired, {})
        assert maps.shows(desired)


def test_a_key_that_somebody_adds_meanwhile_is_not_doubled(maps: Maps) -> None:
    desired = {"/a?": "be_1", "/b?": "be_2"}

    def meanwhile(entry: MapEntry) -> tuple[Unit, ClaimKey]:
        # Asked between our look and our command.
        maps.by_hand(f"add map {maps.routes} {entry.key} be_9")
        return owner_of(entry)

    written = write_map(maps.client, maps.routes, desired, meanwhile, maps.dialect)
    assert written == WrittenMap(desired, {})
    assert maps.shows(desired)


def test_a_key_that_somebody_deletes_meanwhile_has_failed_until_the_next_look(maps: Maps) -> None:
    desired = {"/a?": "be_1", "/b?": "be_2"}
    maps.write(dict.fromkeys(desired, "be_0"))

    def meanwhile(entry: MapEntry) -> tuple[Unit, ClaimKey]:
        if entry.key == "/a?":
            maps.by_hand(f"del map {maps.routes} {entry.key}")
        return owner_of(entry)

    written = write_map(maps.client, maps.routes, desired, meanwhile, maps.dialect)
    assert written.entries == {"/b?": "be_2"}
    assert kinds(written.failed) == {"/a?": CommandRefusedError}
    assert maps.write(desired) == WrittenMap(desired, {})
    assert maps.shows(desired)


@pytest.mark.parametrize(
    "command",
    [
        "add map {file} /b?\\ x be_9",  # shown as the key "/b?" would be, with a longer value
        "add map {file} /b?\\;x be_9",
        "add map {file} #b be_9",
        "add map {file} <<\n /b? be_9\n",
        "add map {file} <<\n/b? be_9\n/c?\n/d? be_9\n",  # its second value has two lines
    ],
)
def test_keys_that_no_command_can_name_are_removed(maps: Maps, command: str) -> None:
    desired = {"/a?": "be_1"}
    maps.write(desired)
    maps.by_hand(command.format(file=maps.routes))
    assert maps.seen().wrong(desired)
    assert maps.write(desired) == WrittenMap(desired, {})
    assert maps.shows(desired)


def test_an_entry_that_cannot_be_sent_does_not_stop_the_others(maps: Maps) -> None:
    written = maps.write({"/a?": "be_1", "/b ?": "be_2", "/c?": ""})
    assert written.entries == {"/a?": "be_1"}
    assert kinds(written.failed) == {"/b ?": LocalProtocolError, "/c?": LocalProtocolError}
    assert maps.shows({"/a?": "be_1"})


@pytest.mark.parametrize("count", [2, 200])
def test_an_entry_that_haproxy_refuses_does_not_stop_the_others(maps: Maps, count: int) -> None:
    good = {f"10.0.0.{number}": "yes" for number in range(count)}
    for _ in range(2):
        written = maps.write({**good, "10.0.0.x": "no"}, maps.sources)
        assert written.entries == good
        assert kinds(written.failed) == {"10.0.0.x": CommandRefusedError}
        assert read_map(maps.client, maps.sources).entries == good
        await_(lambda: maps.uncommitted(maps.sources) == 0, "nothing is left of what was refused")


def test_a_map_that_haproxy_does_not_have(maps: Maps) -> None:
    with pytest.raises(RemoteProtocolError, match="Unknown map identifier"):
        maps.write({"/a?": "be_1"}, "absent.map")
    assert maps.client.ask("show info")


@pytest.mark.parametrize("desired", [{"/a?": "be_2"}, many(200, "y")])
def test_what_a_writer_that_died_left_is_thrown_away(maps: Maps, desired: dict[str, str]) -> None:
    maps.write({"/a?": "be_1"})
    maps.open_version(many(100, "x"))
    maps.open_version({"/a?": "be_9"})
    assert maps.uncommitted() == 101
    assert maps.write(desired) == WrittenMap(desired, {})
    await_(lambda: maps.uncommitted() == 0, "the versions are gone")
    assert maps.shows(desired)


def test_a_restarted_haproxy_has_the_map_from_its_file(maps: Maps) -> None:
    desired = {**many(100, "x"), **ODD}
    file = MapFile(maps.path)
    assert file.write(maps.write(desired).entries)
    maps.stand.stop_haproxy()
    maps.stand.start_haproxy()
    assert maps.shows(desired)
    assert maps.served("/k7") == "x-7"
    assert maps.write(desired) == WrittenMap(desired, {})


def test_a_file_is_written_when_the_map_is_another(tmp_path: Path) -> None:
    path = tmp_path / "maps" / "routes.map"
    file = MapFile(path)
    assert file.write({"a": "b"})
    first = path.stat().st_ino
    assert file.write({"a": "b"})
    assert path.stat().st_ino == first
    assert file.write({})
    assert path.read_text() == ""
    path.unlink()
    path.mkdir()
    assert not file.write({"a": "c"})
    path.rmdir()
    assert file.write({"a": "c"})
    assert parse_map_file(path.read_text()).entries == {"a": "c"}


def kinds(failed: Mapping[str, EntryFailure]) -> dict[str, type]:
    return {key: type(error) for key, error in failed.items()}


# -- a HAProxy that is not as we know it -------------------------------------------------------


def accepts_all(connection: Connection) -> None:
    """Takes every command, and does nothing."""
    connection.greet()
    while (line := connection.line()) is not None:
        if line.endswith(b"<<"):
            while connection.line():
                pass
        if line == b"show map":
            connection.send(b"0 (f.map) used curr_ver=0 next_ver=0 entry_cnt=0\n")
        if line.startswith(b"prepare"):
            connection.send(b"New version created: 1\n")
        connection.send(b"\n> ")


def dies_while_it_commits(connection: Connection) -> None:
    connection.greet()
    for reply in (b"", b"0 (f.map) used curr_ver=0 next_ver=0\n", b"New version created: 1\n"):
        connection.line()
        connection.send(reply + b"\n> ")
    connection.line()


@pytest.mark.parametrize("count", [1, 100])
def test_what_was_accepted_and_is_not_shown_has_failed(
    make_peer: MakePeer, make_client: MakeClient, count: int
) -> None:
    peer = make_peer(accepts_all)
    desired = many(count, "x")
    written = write_map(make_client(peer.address), "f.map", desired, owner_of, Dialect((3, 2)))
    assert written.entries == {}
    assert kinds(written.failed) == dict.fromkeys(desired, EntryNotShownError)
    assert "'/k0?' in f.map" in str(written.failed["/k0?"])
    # Both ways were tried, each once.
    assert [line for line in peer.lines if line.startswith("commit")] == ["commit map @1 f.map"]


def test_a_haproxy_that_goes_away_meanwhile(make_peer: MakePeer, make_client: MakeClient) -> None:
    client = make_client(make_peer(dies_while_it_commits).address)
    with pytest.raises(DisconnectedError):
        write_map(client, "f.map", many(100, "x"), owner_of, Dialect((3, 2)))
