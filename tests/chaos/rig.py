"""What a chaos run needs beside the stand: a relay that can be cut in the middle of a batch, and
clients that know what they were promised.
"""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relay import Relay
from stand import Client, Stand
from world import PORTS

from sidecar.common.hostport import split_host_port

STAYING_MAX = 60
_CHANGING = (b"set ", b"add ", b"del ", b"enable ", b"disable ", b"shutdown ")


class Tripwire(Relay):
    """A relay that can be cut between two commands of one batch, and waited for."""

    def __init__(self, path: Path, target: str) -> None:
        self._moved = threading.Condition()
        self._tripping = threading.Lock()
        self._left = 0
        self._then: Callable[[], None] | None = None
        self._crowd = contextlib.ExitStack()
        self._faulty = self._slow = False
        self._readdressed: set[str] = set()
        #: Servers that were made ready before HAProxy was asked for their new address.
        self.too_soon: list[str] = []
        #: All that was ever to be a server: IP and port.
        self.addressed: set[tuple[str, int]] = set()
        super().__init__(path, target)

    def trip(self, after: int, then: Callable[[], None] | None = None) -> None:
        """Pass ``after`` more commands that change something, then cut, and do ``then``; with 0
        never, and what was being done is done."""
        with self._tripping:
            self._left, self._then = after, then

    def fault(self, mode: str) -> None:
        """A mode, or "full": others take all of HAProxy's CLI connections, or "slow": each command
        takes its time, so that clients come between any two of them."""
        self._crowd.close()
        self._slow = mode == "slow"
        if mode != "pass" or self._faulty:
            self.set_mode("pass" if mode in ("full", "slow") else mode)  # type: ignore[arg-type]
        self._faulty = mode != "pass"
        for _ in range(12 if mode == "full" else 0):
            one = self._crowd.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            one.settimeout(0.1)
            with contextlib.suppress(OSError):
                one.connect(self._target)

    def await_commands(self, count: int) -> None:
        """Let the sidecar send some, if it has any."""
        goal = len(self.commands) + count
        with self._moved:
            self._moved.wait_for(lambda: len(self.commands) >= goal, 0.1)

    def close(self) -> None:
        self._crowd.close()
        super().close()

    def _pass_commands(self, sidecar: socket.socket, haproxy: socket.socket) -> None:
        pending = b""
        while data := sidecar.recv(65536):
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                self._note(line.decode())
                haproxy.sendall(line + b"\n")
                if line.startswith(_CHANGING):
                    if self._slow:
                        time.sleep(0.002)
                    with self._tripping:
                        self._left -= 1
                        if self._left == 0:
                            if self._then:
                                self._then()
                            return
            with self._moved:
                self._moved.notify_all()

    def _note(self, command: str) -> None:
        self.commands.append(command)
        match command.split():
            case ["set", "server", server, "addr", ip, "port", port]:
                self._readdressed.add(server)
                self.addressed.add((ip, int(port)))
            case ["add", "server", _, address, *_]:
                self.addressed.add(split_host_port(address))
            case ["show", "servers", "state", *_]:
                self._readdressed.clear()
            case ["set", "server", server, "state", "ready"] if server in self._readdressed:
                self.too_soon.append(server)


@dataclass
class Promise:
    """What new connections to one port may rely on.

    ``wanted``: the servers it should have now. ``last_wanted``: server -> when it was still
    wanted. ``right_at``: when HAProxy was seen to have just what is wanted. ``steady``: at every
    moment since then there was a server for them, and room. ``lasting``: servers that HAProxy used
    then, and that were wanted ever since. ``tampered``: by hand, so that anything goes;
    ``tamperings``: from when to when it was so.
    """

    wanted: frozenset[str] = frozenset()
    last_wanted: dict[str, float] = field(default_factory=dict)
    right_at: list[float] = field(default_factory=lambda: [0.0])
    steady: bool = False
    lasting: frozenset[str] = frozenset()
    tampered: bool = False
    tamperings: list[tuple[float, float]] = field(default_factory=list)
    _since: float = 0.0

    def tamper(self, now: float) -> None:
        if not self.tampered:
            self.tampered, self._since = True, now

    def be_right(self, now: float) -> None:
        """It was seen to be as it should."""
        self.right_at.append(now)
        if self.tampered:
            self.tampered = False
            self.tamperings.append((self._since, now))

    def go_back(self, then: float) -> None:
        """HAProxy was started again, as it was ``then``: be that right, or what somebody made of
        it in a moment when the sidecar had not repaired it yet."""
        self.steady, self.lasting = False, frozenset()
        self.right_at = [moment for moment in self.right_at if moment <= then]
        if any(start <= then <= end for start, end in self.tamperings):
            self.tamper(then)


@dataclass(eq=False)
class Staying:
    """A connection that stays. ``process``: number of the HAProxy that has it. ``doomed_at``:
    since when the drain deadline may run; None while its server is wanted, 0 once its port was
    changed by hand, or kept from the sidecar."""

    port: int
    client: Client
    process: int
    doomed_at: float | None


class Clients(threading.Thread):
    """Clients of all ports: some that stay, and, in this thread, short ones without a pause.

    ``faults``: promises that were broken. ``process``, ``quiet``, ``frozen``: the number of
    HAProxy's process, of the quiet point, and of the times that HAProxy was stopped or went on; a
    promise holds within one of each.
    """

    def __init__(self, stand: Stand) -> None:
        super().__init__(daemon=True)
        self.promises = {port: Promise() for port in PORTS}
        self.staying: list[Staying] = []
        self.faults: list[str] = []
        self.served = self.process = self.quiet = self.frozen = 0
        self._stand = stand
        self._over = threading.Event()

    @property
    def era(self) -> tuple[int, int, int]:
        return self.process, self.quiet, self.frozen

    def run(self) -> None:
        dice = random.Random(1)
        while not self._over.is_set():
            if client := self._connect(dice.choice(PORTS)):
                client.close()
                self.served += 1

    def close(self) -> None:
        self._over.set()
        if self.is_alive():
            self.join(20)
        self.drop(self.staying)

    def _connect(self, port: int) -> Client | None:
        """A connection that echoes, if there is one to be had; broken promises are noted."""
        promise = self.promises[port]
        era, since, steady = self.era, promise.right_at[-1], promise.steady
        anything_goes = promise.tampered
        client = None
        try:
            client = self._stand.connect(port)
            known = client.server in promise.wanted
            known |= promise.last_wanted.get(client.server, -1.0) >= since
            if not (known or anything_goes or promise.tampered):
                self.faults.append(f"port {port}: {client.server} greeted, not {promise.wanted}")
            client.echo()
        except (OSError, AssertionError) as exc:
            if client:
                client.close()
            steady = steady and promise.steady and not (anything_goes or promise.tampered)
            if steady and era == self.era:
                self.faults.append(f"port {port}: {exc!r} instead of one of {promise.wanted}")
            return None
        return client

    def stay(self, port: int) -> None:
        """Open a connection that stays, if there is one to be had."""
        process, promise = self.process, self.promises[port]
        if client := self._connect(port):
            unwanted_since = None if client.server in promise.wanted else time.time()
            doomed_at = 0.0 if promise.tampered else unwanted_since
            self.staying.append(Staying(port, client, process, doomed_at))
            self.drop(self.staying[:-STAYING_MAX])

    def hang_up(self, which: int) -> None:
        self.drop(self.staying[which % (len(self.staying) or 1) :][:1])

    def drop(self, items: Sequence[Staying]) -> None:
        for item in list(items):
            item.client.close()
            self.staying.remove(item)

    def doom(self, port: int | None = None) -> None:
        """After what is wanted changed; or after ``port`` was left to somebody else."""
        for item in self.staying:
            if item.port == port:
                item.doomed_at = 0.0
            elif item.client.server not in self.promises[item.port].wanted:
                item.doomed_at = time.time() if item.doomed_at is None else item.doomed_at

    def look_after(self, deadline_seconds: float) -> None:
        """All that stay must echo, but those whose server went before the deadline."""
        for item in list(self.staying):
            try:
                item.client.echo()
            except (OSError, AssertionError) as exc:
                went = float("inf") if item.doomed_at is None else item.doomed_at
                age = time.time() - went
                if not 0 < deadline_seconds <= age:
                    what = f"port {item.port}: session on {item.client.server}: {exc!r}"
                    self.faults.append(f"{what}, {age:.2f} s after its server went")
                self.drop([item])
