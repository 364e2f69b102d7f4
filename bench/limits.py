"""What the limits of connections cost: HAProxy's time for a connection, with and without them.

    python bench/limits.py [--connections 4000] [--repeats 7] [--smoke] [--markdown]

One real HAProxy on haproxy.cfg as it is rendered, and one on the same without the rules; each has
a port that leads to a server, and the two take turns. A client connects, is greeted and closes, one
connection after another. Then the port of the first one is full, and its rule closes them.
"""

import argparse
import contextlib
import re
import socket
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/support"))

from figures import haproxy_version, machine, show, spread, wait_until_idle
from load import Worker
from proc import cpu_seconds
from rich.console import Console
from rich.progress import track
from stand import Stand, await_, fresh_ip

from sidecar.haproxy.config import template_path
from sidecar.haproxy.operations import SetAddress, SetState
from sidecar.listeners.tcp import unit_of
from sidecar.model.pool import Address

PORT = 30000
MAXCONN = 50

#: What of our template is there for the limits: five lines of a pool, two of each shared listener
#: and of where TLS ends.
_RULES = re.compile(
    r"^ *(maxconn .*pool|tcp-request .*(fe_conn|tcp-connections|ports_maxconn)).*\n", re.MULTILINE
)


def stand_in(folder: Path, *, limits: bool) -> Stand:
    folder.mkdir()
    haproxy = {}
    if not limits:
        without = folder / "haproxy.cfg.j2"
        text, count = _RULES.subn("", template_path().read_text())
        if count != 11:
            raise SystemExit(f"the template has {count} lines of limits, not 11")
        without.write_text(text)
        haproxy["template"] = str(without)
    pool = {"ports": [str(PORT)], "slots": 1, "maxconn": MAXCONN}
    return Stand(folder, [pool], haproxy)


def serve(stand: Stand, server: Address) -> None:
    stand.client.apply([SetAddress(unit_of(PORT), "s1", server)])
    await_(lambda: server in stand.slots(PORT), "the address is shown")
    stand.client.apply([SetState(unit_of(PORT), "s1", "ready")])


def microseconds(stand: Stand, pid: int, connections: int) -> float:
    """Of HAProxy's time, for each of so many connections, served or closed."""
    before = cpu_seconds(pid)
    for _ in range(connections):
        with contextlib.suppress(ConnectionResetError), socket.socket() as client:
            client.settimeout(10)
            client.connect((stand.ip, PORT))
            client.recv(64)
    return (cpu_seconds(pid) - before) / connections * 1e6


def measure(folder: Path, connections: int, repeats: int) -> tuple[list[float], ...]:
    """Microseconds without limits, with them, and of those that a full port closes."""
    without, within, closed = list[float](), list[float](), list[float]()
    server = Address(fresh_ip(), 9000)
    with contextlib.ExitStack() as ending:
        servers = ending.enter_context(Worker("servers"))
        servers.order(addresses=[server])
        stands = {}
        for limits in (False, True):
            stand = stand_in(folder / str(limits), limits=limits)
            stands[limits] = ending.enter_context(contextlib.closing(stand)).start()
            serve(stand, server)
        pids = {limits: stand.info().pid for limits, stand in stands.items()}
        for _ in track(range(repeats), "rounds", console=Console(stderr=True)):
            without.append(microseconds(stands[False], pids[False], connections))
            within.append(microseconds(stands[True], pids[True], connections))
        with contextlib.ExitStack() as clients:
            for _ in range(MAXCONN):
                clients.callback(stands[True].connect(PORT).close)
            for _ in range(repeats):
                closed.append(microseconds(stands[True], pids[True], connections))
    return without, within, closed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=4000, help="of each turn")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each")
    parser.add_argument("--smoke", action="store_true", help="a moment: does it run at all?")
    parser.add_argument("--markdown", action="store_true", help="a table for docs/figures.md")
    args = parser.parse_args()
    connections, repeats = (300, 2) if args.smoke else (args.connections, args.repeats)
    if not args.smoke:
        wait_until_idle(60)
    where = machine()
    with tempfile.TemporaryDirectory() as folder:
        without, within, closed = measure(Path(folder), connections, repeats)
    show(
        f"HAProxy {haproxy_version()}; {where}; {repeats} turns of {connections:,} connections",
        ["HAProxy's CPU time for a connection", "median (least … most)"],
        [
            [name, spread(values, lambda value: f"{value:.1f} µs")]
            for name, values in (
                ("served, without limits", without),
                ("served, with limits", within),
                ("closed, since its port is full", closed),
            )
        ],
        markdown=args.markdown,
    )


if __name__ == "__main__":
    main()
