"""Whole maps: their files, for an HAProxy that restarts, and a map made as desired all at once.

Owns the order of commands on a whole map and the proof that they worked: what ``show map`` says
after them. The loop changes single entries (`sidecar.listeners.mapped`), over one connection: two
writers at once can deadlock HAProxy 2.6. Does not know what keys and values mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidecar.common.errors import CommandRefusedError, LocalProtocolError, RuntimeAPIError
from sidecar.common.files import KeptFile
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.dialect import Dialect
from sidecar.haproxy.maps import (
    ClearMap,
    CommitMap,
    EntryOperation,
    MapEntry,
    ObservedMap,
    OwnerOf,
    PrepareMap,
    Transaction,
    map_changes,
    parse_map,
    parse_open_versions,
    prepared_version,
    render_map,
    single_changes,
    transaction,
)
from sidecar.haproxy.operations import Operation


class EntryNotShownError(RuntimeAPIError):
    """HAProxy accepted what was done about a map's entry, and does not show it."""

    def __init__(self, file: str, key: str) -> None:
        super().__init__(f"HAProxy accepted a change of {key!r} in {file} but does not show it")


#: Why an entry is not as desired.
EntryFailure = CommandRefusedError | LocalProtocolError | EntryNotShownError


@dataclass(frozen=True, slots=True)
class WrittenMap:
    """What became of a map. ``entries``: those of the desired ones that HAProxy shows.
    ``failed``: key -> why it is not as desired."""

    entries: Mapping[str, str]
    failed: Mapping[str, EntryFailure]


def write_map(
    client: RuntimeClient,
    file: str,
    desired: Mapping[str, str],
    owner_of: OwnerOf,
    dialect: Dialect,
) -> WrittenMap:
    """Make the map ``file`` have ``desired`` and nothing else, then read it back.

    An entry that HAProxy refuses does not stop the others. Raises RuntimeAPIError when HAProxy
    goes away, or does not have the map.
    """
    unfit, wanted = _checked(desired)
    refused: Mapping[str, EntryFailure] = {}
    seen = _without_open_versions(client, file)
    plan = map_changes(file, seen, wanted, owner_of, dialect)
    if not isinstance(plan, Transaction):
        seen, refused = _change(client, file, plan)
    if seen.wrong(wanted) - refused.keys():
        # As planned; or somebody else changed the map meanwhile, which this mends.
        if _transact(client, transaction(file, wanted)) is None:
            seen, refused = read_map(client, file), {}
        elif isinstance(plan, Transaction):
            # One entry spoils it for all: single commands tell which, and serve the others.
            seen, refused = _change(client, file, single_changes(file, seen, wanted, owner_of))
    wrong = seen.wrong(wanted)
    failed = {key: refused.get(key) or EntryNotShownError(file, key) for key in wrong}
    entries = {key: wanted[key] for key in wanted if key not in wrong}
    return WrittenMap(entries, {**failed, **unfit})


def read_map(client: RuntimeClient, file: str) -> ObservedMap:
    """Raises RuntimeAPIError."""
    return parse_map(client.ask(f"show map {file}"))


def _checked(desired: Mapping[str, str]) -> tuple[dict[str, EntryFailure], dict[str, str]]:
    """Those of ``desired`` that cannot be sent, and the others."""
    failed: dict[str, EntryFailure] = {}
    for key, value in desired.items():
        try:
            MapEntry(key, value).checked()
        except LocalProtocolError as exc:
            failed[key] = exc
    return failed, {key: value for key, value in desired.items() if key not in failed}


def _without_open_versions(client: RuntimeClient, file: str) -> ObservedMap:
    """The map, once what a writer that died left in it uncommitted is thrown away."""
    answers = client.ask_all([f"show map {file}", "show map"])
    seen = parse_map(answers[0])
    versions = parse_open_versions(answers[1], file)
    client.apply([ClearMap(file, version) for version in versions])
    return seen


def _change(
    client: RuntimeClient, file: str, changes: Sequence[EntryOperation]
) -> tuple[ObservedMap, Mapping[str, EntryFailure]]:
    """Carry out ``changes``; the map afterwards, and what was refused."""
    outcomes, answers = client.apply_and_ask(changes, [f"show map {file}"])
    refused: dict[str, EntryFailure] = {
        change.entry: outcome
        for change, outcome in zip(changes, outcomes, strict=True)
        if not isinstance(outcome, str)
    }
    return parse_map(answers[0]), refused


def _transact(client: RuntimeClient, plan: Transaction) -> Exception | None:
    """Carry out ``plan`` wholly, or not at all: then, what HAProxy refused."""
    (prepared,) = client.apply([PrepareMap(plan.file)])
    if not isinstance(prepared, str):
        return prepared
    version = prepared_version(prepared)
    error = _first_refusal(client, plan.fill(version))
    if error is None:
        error = _first_refusal(client, [CommitMap(plan.file, version)])
    if error is not None:
        client.apply([ClearMap(plan.file, version)])
    return error


def _first_refusal(client: RuntimeClient, operations: Sequence[Operation]) -> Exception | None:
    return next((item for item in client.apply(operations) if not isinstance(item, str)), None)


class MapFile:
    """The file of a map, which HAProxy reads when it starts and never writes."""

    def __init__(self, path: Path) -> None:
        self._file = KeptFile(path)
        self._written: dict[str, str] | None = None

    def write(self, entries: Mapping[str, str]) -> bool:
        """Make it hold ``entries``, which HAProxy has taken; whether it does."""
        if entries != self._written:
            self._written = dict(entries) if self._file.write(render_map(entries)) else None
        return self._written is not None
