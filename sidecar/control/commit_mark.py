"""That HAProxy carries out a commit of CAs or revocation lists for us, in a file of each store.

A commit of what many use takes long, and if its client goes away meanwhile, HAProxy has freed what
it goes on to remember: whoever ends that transaction kills it. So a sidecar that finds one must
know whether it may have been such a commit. For the loop's thread.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from sidecar.common.files import KeptFile
from sidecar.haproxy.certificates import Store

#: Why nothing is done about what was interrupted, and what is to be done.
REMEDY = (
    "a change of this was interrupted while HAProxy carried it out, and would kill it if it was"
    " touched again; restart HAProxy when it suits you"
)


class CommitMark:
    """``beside``: the state file, in whose folder they are."""

    def __init__(self, beside: Path) -> None:
        stores: tuple[Store, ...] = ("ca-file", "crl-file")
        self._paths: Mapping[Store, Path] = {
            store: beside.with_name(f"committing-{store}") for store in stores
        }
        self._files = {store: KeptFile(path) for store, path in self._paths.items()}
        self._begun = {store for store, path in self._paths.items() if path.exists()}

    def problem(self, store: Store, begun: str | None) -> str:
        """Why HAProxy's transaction, which is about ``begun``, must not be touched; "" where it
        may, or there is none."""
        return REMEDY if begun is not None and store in self._begun else ""

    def settle(self, store: Store, begun: str | None) -> str:
        """The same, for who makes such commits: without a transaction none is under way."""
        if begun is None:
            self.end(store)
        return self.problem(store, begun)

    def begin(self, store: Store) -> None:
        self._begun.add(store)
        self._files[store].write("")

    def end(self, store: Store) -> None:
        """HAProxy answered."""
        if store in self._begun:
            self._begun.discard(store)
            with contextlib.suppress(OSError):
                self._paths[store].unlink()
