"""`sidecar.listeners.attributes`: an attribute of backends as the entries of one map or several."""

from sidecar.haproxy.maps import AddEntry, DeleteEntry, SetEntry
from sidecar.haproxy.operations import KeyOperation
from sidecar.listeners.attributes import FieldsMap
from sidecar.model.desired import BackendName, ClaimKey

FILE, UNIT = "/m/h.map", BackendName("be_1")
KEY = ClaimKey("headers", UNIT)


def showing(*entries: tuple[str, str]) -> FieldsMap:
    made = FieldsMap("headers", FILE, needed=False)
    made.parse({f"show map {FILE}": "\n".join(f"0x1 {key} {value}" for key, value in entries)})
    return made


def add(name: str, value: str) -> KeyOperation:
    return AddEntry(UNIT, KEY, FILE, f"be_1/{name}", value)


def delete(name: str) -> KeyOperation:
    return DeleteEntry(UNIT, KEY, FILE, f"be_1/{name}")


def test_fields_are_one_value() -> None:
    of = showing(("be_1/b", "=2"), ("be_1/a", "=1"), ("be_2/a", "delete"))
    assert of.values == {"be_1": "a:=1 b:=2", "be_2": "a:delete"}
    assert of.entries == {"be_1/b": "=2", "be_1/a": "=1", "be_2/a": "delete"}


def test_only_what_differs_is_changed() -> None:
    of = showing(("be_1/a", "=1"), ("be_1/b", "=2"), ("be_1/c", "=3"))
    found = of.change(UNIT, "a:=1 b:=x:y d:delete")
    changed = SetEntry(UNIT, KEY, FILE, "be_1/b", "=x:y")
    assert found == (changed, add("d", "delete"), delete("c"))
    assert of.remove(UNIT) == [delete("a"), delete("b"), delete("c")]
    assert showing().change(UNIT, "a:=1") == (add("a", "=1"),)


def test_a_long_value_is_replaced_in_two_steps() -> None:
    long = "=" + "x" * 2100
    assert showing(("be_1/a", "=1")).change(UNIT, f"a:{long}") == (delete("a"), add("a", long))


def test_what_others_wrote_is_repaired_and_can_be_saved() -> None:
    of = showing(("be_1/a", "=1 b:=2"), ("be_1/", "x"), ("/a", "x"), ("be_1", "x"), ("be_1/é", "x"))
    assert of.entries == {"be_1/a": "=1 b:=2", "be_1/": "x", "/a": "x"}
    assert of.change(UNIT, "a:=1 b:=2") == (
        SetEntry(UNIT, KEY, FILE, "be_1/a", "=1"),
        add("b", "=2"),
        delete(""),
    )


def test_what_is_asked_for() -> None:
    of = showing(("be_1/a", "=1"))
    assert of.questions(None) == of.questions([KEY]) == [f"show map {FILE}"]
    assert of.questions([]) == []
    of.parse({})
    assert of.values == {"be_1": "a:=1"}
    of.parse({f"show map {FILE}": "Unknown map identifier. Please use #<id> or <file>."})
    assert not of.exists
    assert of.values == {}
