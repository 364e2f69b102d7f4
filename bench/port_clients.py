"""What it costs a connection to a port that clients may be judged: HAProxy's time, and its memory.

    python bench/port_clients.py [--connections 4000] [--repeats 5] [--smoke] [--markdown]

One real HAProxy on haproxy.cfg as it is rendered, and one on the same without the rules, take
turns. A client connects, is greeted and closes, one connection after another: to a port without
anything, with a list of clients, with limits, with both; and by a list that it is not in. Lists of
other ports are there, too, and their entries tell what one takes of memory.
"""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/support"))

from figures import haproxy_version, machine, show, spread, wait_until_idle
from limits import PORT, microseconds, serve
from load import Worker
from proc import resident_bytes
from rich.console import Console
from rich.progress import track
from stand import Stand, fresh_ip

from sidecar.haproxy.config import template_path
from sidecar.haproxy.naming import backend_name
from sidecar.haproxy.web_files import WebFiles
from sidecar.model.pool import Address

MARK = "0123456789abcdef"

#: What stands in the maps of guards, sources and limits for the port that is asked.
SETUPS: dict[str, tuple[tuple[str, str], ...]] = {
    "without a list or limits": (),
    "with a list": (("guards", MARK), ("sources", f"/{MARK}/4/7F")),
    "with limits": (("limits", f"{MARK}/1000000/1000000/"),),
    "with both": (
        ("guards", MARK),
        ("sources", f"/{MARK}/4/7F"),
        ("limits", f"{MARK}/1000000/1000000/"),
    ),
    "refused by a list": (("guards", MARK),),
}
_BARE = "served by haproxy.cfg without the rules"


def stand_in(folder: Path, *, rules: bool) -> Stand:
    folder.mkdir()
    haproxy = {}
    if not rules:
        without = folder / "haproxy.cfg.j2"
        lines = template_path().read_text().splitlines(keepends=True)
        without.write_text("".join(line for line in lines if "{{ judge(" not in line))
        haproxy["template"] = str(without)
    return Stand(folder, [{"ports": [str(PORT)], "slots": 1, "maxconn": 1000}], haproxy)


def tell(stand: Stand, setup: tuple[tuple[str, str], ...]) -> None:
    files, unit = WebFiles.beside(stand.settings.haproxy.state_file), backend_name(PORT)
    paths = dict(zip(("sources", "guards", "limits"), files.port_maps, strict=True))
    for path in (paths["guards"], paths["limits"]):
        stand.client.ask(f"del map {path} {unit}")
    stand.client.ask(f"del map {paths['sources']} {unit}/{MARK}/4/7F")
    for name, value in setup:
        entry = f"{unit}{value} 1" if name == "sources" else f"{unit} {value}"
        stand.client.ask(f"add map {paths[name]} {entry}")


def fill(stand: Stand, pid: int, ports: int, networks: int) -> float:
    """Lists of other ports; the bytes that an entry takes."""
    path = WebFiles.beside(stand.settings.haproxy.state_file).port_sources_map
    before = resident_bytes(pid)
    for port in range(ports):
        unit = backend_name(40000 + port)
        lines = [f"add map {path} {unit}/{MARK}/4/{number:08X} 1" for number in range(networks)]
        stand.client.ask_all(lines)
    return (resident_bytes(pid) - before) / (ports * networks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=4000, help="of each turn")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each")
    parser.add_argument("--smoke", action="store_true", help="a moment: does it run at all?")
    parser.add_argument("--markdown", action="store_true", help="a table for docs/figures.md")
    args = parser.parse_args()
    connections, repeats = (200, 1) if args.smoke else (args.connections, args.repeats)
    if not args.smoke:
        wait_until_idle(60)
    where, server = machine(), Address(fresh_ip(), 9000)
    found: dict[str, list[float]] = {_BARE: [], **{name: [] for name in SETUPS}}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as ending:
        ending.enter_context(Worker("servers")).order(addresses=[server])
        stands: list[Stand] = []
        for rules in (False, True):
            stand = stand_in(Path(folder) / str(rules), rules=rules)
            stands.append(ending.enter_context(contextlib.closing(stand)).start())
            serve(stand, server)
        (bare, ruled), (bare_pid, pid) = stands, (stand.info().pid for stand in stands)
        entry_bytes = fill(ruled, pid, 10 if args.smoke else 1000, 20)
        for _ in track(range(repeats), "rounds", console=Console(stderr=True)):
            found[_BARE].append(microseconds(bare, bare_pid, connections))
            for name, setup in SETUPS.items():
                tell(ruled, setup)
                found[name].append(microseconds(ruled, pid, connections))
    show(
        f"HAProxy {haproxy_version()}; {where}; {repeats} turns of {connections:,} connections",
        ["HAProxy's CPU time for a connection", "median (least … most)"],
        [
            *([name, spread(values, lambda it: f"{it:.1f} µs")] for name, values in found.items()),
            ["memory of an entry of a list", f"{entry_bytes:.0f} bytes"],
        ],
        markdown=args.markdown,
    )


if __name__ == "__main__":
    main()
