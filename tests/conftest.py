"""Fixtures: HAProxy, servers and clients that end with the test. See `stand` and `peers` for what
they are.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from by_host import MakeNamed, NamedServer
from cli import ROOT, Process, Start
from peers import MakeClient, MakePeer, clients, peers_in
from stand import EchoServer, Stand
from terminating import Terminating

from sidecar.haproxy.client import RuntimeClient

# Those need an API server, and the network that `make test-cluster` makes for them; or an image; or
# a node.
collect_ignore = [
    *([] if "CLUSTER_BINARIES" in os.environ else ["cluster"]),
    *([] if "IMAGE_ROOT" in os.environ else ["image"]),
    *([] if "KUBELET_FOLDER" in os.environ else ["kubelet"]),
]

# A shell that starts us in the background has Ctrl-C ignored, and what we start would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no fault; and what CI tries must not be luck: new examples are for us to find.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


_UNIT = Path(__file__).parent / "unit"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is in unit/ knows no HAProxy, and need not be run on each."""
    for item in items:
        if _UNIT not in item.path.parents:
            item.add_marker(pytest.mark.haproxy)


@pytest.fixture
def files() -> Iterator[contextlib.ExitStack]:
    """What a test enters here ends with it."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def make_stand(tmp_path: Path) -> Iterator[Callable[..., Stand]]:
    """Makes stands: ``make_stand(pools=[...], timing={...})`` takes the settings' keys."""
    stands: list[Stand] = []

    def make(*, start: bool = True, **settings: Any) -> Stand:
        folder = tmp_path / f"s{len(stands)}"
        folder.mkdir()
        stand = Stand(folder, **settings)
        stands.append(stand)
        return stand.start() if start else stand

    yield make
    for stand in stands:
        stand.close()


@pytest.fixture
def tls(make_stand: Callable[..., Stand]) -> Terminating:
    """A HAProxy that ends TLS."""
    return Terminating(make_stand(pools=[{"ports": ["30000"], "slots": 1}]))


@pytest.fixture
def other(tls: Terminating) -> Iterator[RuntimeClient]:
    """Somebody else's connection to it."""
    with RuntimeClient(tls.client.address) as client:
        yield client


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts commands in processes of their own: ``start(command(…), cwd=…, NAME=value)``."""
    processes: list[Process] = []

    def make(arguments: list[str], cwd: Path = ROOT, **environment: str) -> Process:
        processes.append(Process(arguments, cwd, **environment))
        return processes[-1]

    yield make
    for process in processes:
        process.close()


@pytest.fixture
def make_server() -> Iterator[Callable[..., EchoServer]]:
    """Makes echo servers, each on a loopback address of its own."""
    servers: list[EchoServer] = []

    def make(name: str | None = None, **where: Any) -> EchoServer:
        servers.append(EchoServer(name or f"server-{len(servers)}", **where))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def named(files: contextlib.ExitStack) -> MakeNamed:
    """Makes HTTP servers that answer with their names."""

    def make(name: str, *address: Any, **options: Any) -> NamedServer:
        server = NamedServer(name, *address, **options)
        files.callback(server.close)
        return server

    return make


@pytest.fixture
def make_peer(tmp_path: Path) -> Iterator[MakePeer]:
    with peers_in(tmp_path) as make:
        yield make


@pytest.fixture
def make_client() -> Iterator[MakeClient]:
    with clients() as make:
        yield make
