"""Maps of a real HAProxy: what each command does to them, and what it reads when it starts."""

from collections.abc import Callable

import pytest
from mapped import KEY, UNIT, Maps, many
from stand import Stand

from sidecar.common.errors import CommandRefusedError
from sidecar.daemon.persistence import MapFile
from sidecar.haproxy.dialect import MAP_UNKNOWN
from sidecar.haproxy.maps import AddEntry, DeleteEntry, SetEntry
from sidecar.haproxy.operations import Operation

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


def test_one_entry_comes_changes_and_goes(maps: Maps) -> None:
    assert maps.served("/a") is None
    assert maps.apply(maps.add("/a?", "be_1")) == [""]
    assert maps.served("/a") == "be_1"
    assert maps.apply(maps.set("/a?", "be_2")) == [""]
    assert maps.served("/a") == "be_2"
    assert maps.apply(maps.delete("/a?")) == [""]
    assert maps.served("/a") is None
    assert maps.seen() == {}


@pytest.mark.parametrize(("entry", "value"), ODD.items())
def test_any_value_arrives_whole(maps: Maps, entry: str, value: str) -> None:
    assert maps.apply(maps.add(entry, value)) == [""]
    assert maps.seen() == {entry: value}
    assert maps.apply(maps.delete(entry)) == [""]
    assert maps.seen() == {}


def test_what_haproxy_refuses(maps: Maps) -> None:
    absent = f"{maps.routes}x"
    maps.apply(maps.add("/a?", "be_1"))
    refused: list[tuple[Operation, str]] = [
        (AddEntry(UNIT, KEY, absent, "/a?", "be"), UNKNOWN),
        (AddEntry(UNIT, KEY, absent, "/a?", "b e"), UNKNOWN),
        (SetEntry(UNIT, KEY, absent, "/a?", "be"), UNKNOWN),
        (DeleteEntry(UNIT, KEY, absent, "/a?"), UNKNOWN),
        (maps.set("/b?", "be"), "entry not found."),
        (AddEntry(UNIT, KEY, maps.sources, "10.0.0.x", "no"), "'10.0.0.x' is not a valid"),
    ]
    outcomes = maps.client.apply([operation for operation, _ in refused])
    for (operation, text), outcome in zip(refused, outcomes, strict=True):
        assert isinstance(outcome, CommandRefusedError), operation
        assert outcome.reply.startswith(text)
    assert maps.seen() == {"/a?": "be_1"}


def test_a_key_that_is_gone_counts_as_deleted(maps: Maps) -> None:
    assert maps.apply(maps.delete("/a?")) == ["Key not found."]
    (outcome,) = maps.client.apply([maps.delete("/a?")])
    assert isinstance(outcome, str)


def test_the_first_of_two_entries_is_found_and_both_are_changed_and_deleted(maps: Maps) -> None:
    maps.apply(maps.add("/a?", "be_1"), maps.add("/a?", "be_2"))
    assert maps.shown() == ["/a? be_1", "/a? be_2"]
    assert maps.seen() == {"/a?": "be_1"}
    assert maps.served("/a") == "be_1"
    assert maps.apply(maps.set("/a?", "be_3")) == [""]
    assert maps.shown() == ["/a? be_3", "/a? be_3"]
    assert maps.apply(maps.delete("/a?")) == [""]
    assert maps.shown() == []


def test_a_map_that_haproxy_does_not_have(maps: Maps) -> None:
    assert maps.client.ask(f"show map {maps.routes}x") in MAP_UNKNOWN
    assert maps.client.ask(f"get map {maps.routes}x /a?") in MAP_UNKNOWN


def test_a_restarted_haproxy_has_the_map_from_its_file(maps: Maps) -> None:
    desired = {**many(100, "x"), **ODD}
    maps.apply(*(maps.add(*entry) for entry in desired.items()))
    assert MapFile(maps.path).write(maps.seen())
    maps.stand.stop_haproxy()
    maps.stand.start_haproxy()
    assert maps.seen() == desired
    assert maps.served("/k7") == "x-7"
