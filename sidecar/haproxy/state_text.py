"""HAProxy's servers as it last showed them, in its own words: what its state file is made of.

A look at a backend has the newest state of that backend, so nothing need be asked for again to save
it. Pure.
"""

from collections.abc import Collection, Iterable

from sidecar.common.errors import RemoteProtocolError

#: HAProxy's reply about a backend that it does not have.
_NO_BACKEND = "Can't find backend."


class StateText:
    """Rows of ``show servers state``, by backend."""

    def __init__(self) -> None:
        self._head = ""
        self._rows: dict[str, str] = {}

    def put(self, backend: str, table: str) -> None:
        """A reply about one of them. Raises RemoteProtocolError if it is something else."""
        if table.startswith(_NO_BACKEND):
            self._rows.pop(backend, None)
            return
        version, names, rows = [*table.split("\n", 2), "", ""][:3]
        if version != "1" or not names.startswith("# "):
            raise RemoteProtocolError(f"not a reply to 'show servers state': {table[:200]!r}")
        if (head := f"{version}\n{names}\n") != self._head:
            # Of another HAProxy, whose rows have other columns.
            self._head, self._rows = head, {}
        if rows := rows.strip("\n"):
            self._rows[backend] = f"{rows}\n"
        else:
            self._rows.pop(backend, None)

    def of(self, backends: Collection[str]) -> str:
        """As one reply about those of ``backends`` that were shown; "" before anything was."""
        return self._joined(filter(None, map(self._rows.get, backends)))

    @property
    def text(self) -> str:
        """All of it; "" before anything was shown."""
        return self._joined(self._rows.values())

    def _joined(self, rows: Iterable[str]) -> str:
        return f"{self._head}{''.join(rows)}"
