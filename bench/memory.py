"""What a pool costs before anybody uses it: HAProxy's memory and start by ports and slots.

    python bench/memory.py [--smoke] [--markdown]

Starts a real HAProxy (HAPROXY=path chooses it) on a rendered pool of each size, reads its resident
memory once it answers, and fits `base + ports x (a + slots x b)` by least squares.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/support"))

from figures import haproxy_version, machine, show
from proc import resident_bytes
from rich.console import Console
from rich.progress import track
from stand import Stand

FIRST_PORT = 20000


#: Ports and slots.
Size = tuple[int, int]


class Cost(NamedTuple):
    """Of a running, idle HAProxy. ``start_seconds``: until its Runtime API answers."""

    resident_bytes: int
    start_seconds: float


def measure(ports: int, slots: int) -> Cost:
    pool = {"ports": [f"{FIRST_PORT}-{FIRST_PORT + ports - 1}"], "slots": slots}
    with contextlib.ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        stand = ending.enter_context(contextlib.closing(Stand(folder, [pool])))
        start = time.monotonic()
        info = stand.start().info()
        return Cost(resident_bytes(info.pid), time.monotonic() - start)


def formula(
    costs: Mapping[Size, Cost], few: Size, wide: Size, many: Size, what: str = "ports"
) -> str:
    """What an empty HAProxy, a port (or ``what`` else has slots) and a slot take, from sizes that
    differ in one thing."""
    slot = (costs[wide].resident_bytes - costs[few].resident_bytes) / (few[0] * (wide[1] - few[1]))
    port = (costs[many].resident_bytes - costs[few].resident_bytes) / (many[0] - few[0])
    base = costs[few].resident_bytes - few[0] * port
    port -= few[1] * slot
    each = f"{port / 1e3:.1f} kB + slots x {slot / 1e3:.1f} kB"
    return f"memory = {base / 1e6:.0f} MB + {what} x ({each})"


def show_costs(title: str, what: str, costs: Mapping[Size, Cost], *, markdown: bool) -> None:
    show(
        title,
        [f"{what} x slots", "memory (RSS)", "render and start"],
        [
            [
                f"{count:,} x {slots}",
                f"{cost.resident_bytes / 1e6:,.0f} MB",
                f"{cost.start_seconds:.2f} s",
            ]
            for (count, slots), cost in costs.items()
        ],
        markdown=markdown,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--markdown", action="store_true", help="a table for docs/figures.md")
    args = parser.parse_args()
    where = machine()
    few, many = (10, 100) if args.smoke else (1000, 4000)
    # As many slots as there are by default, and others.
    sizes = [(few, 6), (few, 16), (few, 64), (many, 6), (many, 16)]
    costs = {size: measure(*size) for size in track(sizes, "pools", console=Console(stderr=True))}
    title = f"HAProxy {haproxy_version()}; {where}; idle, nothing claimed"
    show_costs(title, "ports", costs, markdown=args.markdown)
    print("\n" + formula(costs, (few, 6), (few, 64), (many, 6)))


if __name__ == "__main__":
    main()
