"""How often Python looks for garbage that reference counts do not find.

Knows nothing of what there is. Imported before everything else: it must import next to nothing.
"""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collecting_rarely() -> Iterator[None]:
    """Leave full garbage collections to whoever calls `gc.collect`, and do the others rarely:
    Python would do a hundred while 10,000 servers are looked at, and some while it imports us."""
    before = gc.get_threshold()
    gc.set_threshold(20_000, before[1], 1_000_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
