"""All benches, one after another, into the tables of docs/figures.md.

    python bench/all.py [--write FILE] [--only NAME…] [--haproxy PATH…] [--smoke]

Each bench is a script of its own that prints tables. Here is only which there are, which of them
run on every HAProxy that is given, and where their tables go: between ``<!-- bench: NAME -->`` and
``<!-- end -->`` of FILE, bench by bench, so that a run that is ended keeps what it has. What stands
around them stays. Without FILE they are printed.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from sidecar.haproxy.process import HAPROXY_VARIABLE

HERE = Path(__file__).parent

#: name -> whether it runs on every HAProxy, or on the first only.
BENCHES = {
    "churn": True,
    "process": False,
    "zero_loss": False,
    "hostile": False,
    "limits": True,
    "port_clients": True,
    "memory": True,
    "web_routes": False,
    "real_clients": False,
    "policies": False,
    "certificates": False,
    "cluster": False,
    "against": False,
}

#: They need an API server, and the network that `tests/cluster/within` makes.
CLUSTER = ("cluster", "against")


def run(name: str, haproxy: str, *, smoke: bool, markdown: bool) -> str:
    """One bench on one HAProxy; its tables, if they are wanted as text. Raises SystemExit."""
    command = [sys.executable, str(HERE / f"{name}.py")]
    command += ["--smoke"] * smoke + ["--markdown"] * markdown
    print(f"bench: {name}, {haproxy}", file=sys.stderr)
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE if markdown else None,
        text=True,
        check=False,
        env={**os.environ, HAPROXY_VARIABLE: haproxy},
    )
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(command)} failed")
    return (done.stdout or "").strip()


def place(text: str, name: str, tables: str) -> str:
    """``text`` with ``tables`` between the marks of that bench. Raises SystemExit without them."""
    begin, end = f"<!-- bench: {name} -->", "<!-- end -->"
    marks = re.compile(rf"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    placed, count = marks.subn(lambda found: f"{found[1]}{tables}\n{found[2]}", text)
    if count != 1:
        raise SystemExit(f"bench: there must be one {begin} … {end}, there are {count}")
    return placed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="whose tables to replace")
    parser.add_argument("--only", nargs="+", choices=BENCHES, help="instead of all")
    given = os.environ.get(HAPROXY_VARIABLE) or "haproxy"
    parser.add_argument("--haproxy", nargs="+", default=[given], help="the first has all benches")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: do they run at all?")
    args = parser.parse_args()
    names = args.only or [name for name in BENCHES if name not in CLUSTER]
    if args.write:
        for name in names:
            place(args.write.read_text(), name, "")
    for name in names:
        tables = [
            run(name, haproxy, smoke=args.smoke, markdown=bool(args.write))
            for haproxy in args.haproxy[: None if BENCHES[name] else 1]
        ]
        if args.write:
            args.write.write_text(place(args.write.read_text(), name, "\n\n".join(tables)))


if __name__ == "__main__":
    main()
