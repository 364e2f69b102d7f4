"""Clients of a chaos run of Routes by host, who know what they were promised."""

import bisect
import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from by_host import client_hello, is_tls
from handshake import shake_hands
from web_world import HOSTS, NOBODY, PORT_QUESTIONS, QUESTIONS, Question, Served, WebWorld

_PIECES_MAX = 50

#: The part of requests that come over TLS.
SECURED = 0.4


@dataclass
class WebPromise:
    """What clients of one question may rely on. ``right``: pod -> when it was last right;
    ``matched``: when its Route would have been found by it, but for others. ``last_wanted``: when
    any Route was, be it without pods.
    ``steady_since``: since when its Route, unchanged, has had a ready pod; None: it has not."""

    served: Served
    right: dict[str, float] = field(default_factory=dict)
    matched: dict[str, float] = field(default_factory=dict)
    last_wanted: float = 0.0
    steady_since: float | None = None
    #: Since when there was always a ready pod of some Route; who changes hosts may leave a gap.
    fluent_since: float | None = None


class WebClients:
    """Threads that ask, until `close`; what was not as promised is in ``faults``."""

    def __init__(self, http: tuple[str, int], tls: tuple[str, int], seed: int) -> None:
        self._http, self._tls = http, tls
        self._seed = seed
        self.lock = threading.Lock()
        self.promises = {question: WebPromise(NOBODY) for question in (*QUESTIONS, *PORT_QUESTIONS)}
        #: When HAProxy was seen to be right; who asks later is never led to what was before.
        self.quiet_at = [0.0]
        #: Of HAProxy: odd while it is dead.
        self.era = 0
        #: By hand, so that anything goes; and from when to when it was.
        self.tampered = False
        self._tamperings = [(0.0, 0.0)]
        self.faults: list[str] = []
        self.gaps: list[str] = []
        self.served = 0
        self.counts: dict[str, int] = {}
        self._stop = threading.Event()
        self._hello = {host: client_hello(host) for host in HOSTS}
        self._threads: list[threading.Thread] = []
        for what, count in (
            (self._short, 2),
            (self._keep_alive, 3),
            (self._download, 3),
            (self._pass, 1),
            (self._stay, 1),
        ):
            for _ in range(count):
                self.add(what)

    def add(self, what: Callable[[random.Random], None]) -> None:
        """One more who does that again and again."""
        number = len(self._threads)
        self._threads.append(threading.Thread(target=self._again, args=(what, number), daemon=True))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    # What is promised.

    def promise(self, world: WebWorld) -> None:
        """All is about to be as in ``world``, or is."""
        now = time.time()
        with self.lock:
            for question, promise in self.promises.items():
                former, served = promise.served, world.served[question]
                specs = [item.route and item.route.spec for item in (former, served)]
                # A thread of HAProxy may sleep between finding a request's Route and its server:
                # where a Route changes both at once, that is one of the servers that it has then.
                pods = {*former.pods, *served.pods, *world.pods_now(former.route)}
                if specs[0] != specs[1] or not served.ready:
                    promise.steady_since = None
                promise.right |= dict.fromkeys(pods, now)
                promise.matched |= dict.fromkeys((*former.matching, *served.matching), now)
                if former.is_wanted or served.is_wanted:
                    promise.last_wanted = now
                if not served.ready:
                    promise.fluent_since = None
                promise.served = served

    def be_quiet(self, since: float) -> None:
        """HAProxy was seen to be right, at or after ``since``."""
        now = time.time()
        with self.lock:
            if self.tampered:
                self.tampered = False
                self._tamperings[-1] = (self._tamperings[-1][0], now)
            self.quiet_at.append(since)
            for promise in self.promises.values():
                if promise.served.ready and promise.steady_since is None:
                    promise.steady_since = now
                if promise.served.ready and promise.fluent_since is None:
                    promise.fluent_since = now

    def tamper(self) -> None:
        with self.lock:
            self._distrust()
            self._promise_nothing()

    def die(self) -> None:
        """HAProxy is about to be killed, or was started again."""
        with self.lock:
            self.era += 1
            self._promise_nothing()

    def go_back(self, saved_at: float) -> None:
        """HAProxy is as it was saved then."""
        with self.lock:
            while len(self.quiet_at) > 1 and self.quiet_at[-1] > saved_at:
                self.quiet_at.pop()
            if any(start <= saved_at <= end for start, end in self._tamperings):
                self._distrust()

    def _distrust(self) -> None:
        if not self.tampered:
            self.tampered = True
            self._tamperings.append((time.time(), float("inf")))

    def _promise_nothing(self) -> None:
        for promise in self.promises.values():
            promise.steady_since = promise.fluent_since = None

    def trusts(self, started: float, era: int) -> bool:
        """Whether HAProxy was nobody else's, and alive, since then."""
        trusted_since = self._tamperings[-1][1]
        return not self.tampered and started >= trusted_since and era == self.era and not era % 2

    def judge(self, question: Question, answer: str, started: float, era: int, how: str) -> None:
        """``answer``: a pod, or in parentheses why there is none."""
        with self.lock:
            promise = self.promises[question]
            if not self.trusts(started, era):
                return
            self.counts[how] = self.counts.get(how, 0) + 1
            at = f"{time.time():.3f}: {how} {question} since {started:.3f}"
            if answer.startswith("("):
                if promise.steady_since is not None and started > promise.steady_since:
                    self.faults.append(f"{at}: {answer}, steady is {promise.served}")
                elif promise.fluent_since is not None and started > promise.fluent_since:
                    self.gaps.append(f"{at}: {answer}, served is {promise.served}")
                return
            self.served += 1
            # When HAProxy was last seen to be right, as of when it was asked.
            since = self.quiet_at[max(0, bisect.bisect(self.quiet_at, started) - 1)]
            last_right = promise.right.get(answer, 0.0)
            if promise.steady_since is None:
                # Entries change one by one: it may be another's who matches, in between.
                last_right = max(last_right, promise.matched.get(answer, 0.0))
            if answer not in promise.served.pods and last_right < since:
                self.faults.append(
                    f"{at}: answered by {answer}, right is {promise.served},"
                    f" and since {since:.3f} {promise.right}"
                )

    def cut(self, era: int, text: str) -> None:
        """A connection ended."""
        with self.lock:
            if era == self.era and era % 2 == 0:
                self.faults.append(f"{time.time():.3f}: {text}")

    # What they do.

    def _again(self, what: Callable[[random.Random], None], number: int) -> None:
        dice = random.Random(self._seed * 100 + number)
        while not self._stop.is_set():
            try:
                what(dice)
            except Exception as exc:  # noqa: BLE001
                self.faults.append(f"client {what.__name__}: {exc!r}")
            self._stop.wait(dice.random() * 0.02)

    def _pick(
        self, dice: random.Random, *, passed: bool = False, secured: bool = False
    ) -> Question:
        wanted = [
            question
            for question in QUESTIONS
            if (question.target is None) is passed and question.secured is secured
        ]
        return dice.choice(wanted)

    def _line(self, *, secured: bool) -> "HTTPLine":
        return HTTPLine(self._tls if secured else self._http, secured=secured)

    def _short(self, dice: random.Random) -> None:
        question = self._pick(dice, secured=dice.random() < SECURED)
        started, era = time.time(), self.era
        try:
            with contextlib.closing(self._line(secured=question.secured)) as line:
                answer = line.ask(question)
        except OSError as exc:
            answer = f"({exc!r})"
        self.judge(question, answer, started, era, "short")

    def _keep_alive(self, dice: random.Random) -> None:
        era, secured = self.era, dice.random() < SECURED
        try:
            line = self._line(secured=secured)
        except OSError as exc:
            self.cut(era, f"connecting: {exc!r}")
            self._stop.wait(0.05)
            return
        with contextlib.closing(line):
            for count in range(dice.randrange(1, 200)):
                if self._stop.wait(dice.random() ** 3 * 0.2):
                    return
                question, started = self._pick(dice, secured=secured), time.time()
                now = self.era
                try:
                    answer = line.ask(question)
                except OSError as exc:
                    if now == era:
                        self.cut(era, f"keep-alive ended at request {count}, {question}: {exc!r}")
                    return
                self.judge(question, answer, started, era, "keep-alive")
                if line.closes:
                    if not answer.startswith("("):
                        self.cut(era, f"keep-alive is to close after {answer}")
                    return

    def _download(self, dice: random.Random) -> None:
        question = self._pick(dice, secured=dice.random() < SECURED)
        pieces = dice.randrange(2, _PIECES_MAX)
        started, era = time.time(), self.era
        got: str | None = None
        try:
            with contextlib.closing(self._line(secured=question.secured)) as line:
                got = line.begin(question, f"?pieces={pieces}")
                self.judge(question, got, started, era, "download")
                if got.startswith("("):
                    return
                rest = line.rest()
                if set(rest.split()) - {got} or len(rest) != (pieces - 1) * len(f"{got}\n"):
                    self.cut(era, f"download of {question} from {got}: {len(rest)} bytes more")
        except OSError as exc:
            if got is None:
                self.judge(question, f"({exc!r})", started, era, "download")
            else:
                self.cut(era, f"download of {question} from {got} was cut: {exc!r}")

    def _pass(self, dice: random.Random) -> None:
        question = self._pick(dice, passed=True)
        started, era = time.time(), self.era
        try:
            with socket.create_connection(self._tls, 10) as connection:
                answer = self._greet(connection, question.host)
        except OSError as exc:
            answer = f"({exc!r})"
        self.judge(question, answer, started, era, "pass")

    def _greet(self, connection: socket.socket, host: str) -> str:
        connection.sendall(self._hello[host])
        with connection.makefile("rb") as stream:
            if is_tls(stream.peek(1)):
                return "(ended)"
            return stream.readline().decode().strip() or "(closed)"

    def _stay(self, dice: random.Random) -> None:
        """A passthrough connection that stays, whatever happens."""
        question = self._pick(dice, passed=True)
        started, era = time.time(), self.era
        answer = ""
        try:
            with socket.create_connection(self._tls, 10) as connection:
                answer = self._greet(connection, question.host)
                self.judge(question, answer, started, era, "pass")
                for _ in range(0 if answer.startswith("(") else dice.randrange(40)):
                    if self._stop.wait(0.05):
                        return
                    connection.sendall(b"ping")
                    assert connection.recv(4, socket.MSG_WAITALL) == b"ping", "no echo"
        except (OSError, AssertionError) as exc:
            if answer:
                self.cut(era, f"passthrough {question.host} to {answer} was cut: {exc!r}")
            else:
                self.judge(question, f"({exc!r})", started, era, "pass")


class HTTPLine:
    """A client's connection. Raises OSError when it ends. ``sni``: no passthrough Route has it.
    ``certificate``: that it was shown, in DER."""

    def __init__(self, address: tuple[str, int], *, secured: bool, sni: str = "ended.test") -> None:
        self.certificate = b""
        self._socket: socket.socket
        if secured:
            self._socket = shaken = shake_hands(address, sni)
            self.certificate = shaken.getpeercert(binary_form=True) or b""
        else:
            self._socket = socket.create_connection(address, 10)
        self._stream = self._socket.makefile("rb")
        self._left = 0
        #: Whether HAProxy said that it closes it now.
        self.closes = False

    def ask(self, question: Question) -> str:
        """The pod that answers; in parentheses another status."""
        answer = self.begin(question)
        self.rest()
        return answer

    def begin(self, question: Question, more: str = "") -> str:
        """As `ask`, and the rest comes later."""
        self._socket.sendall(
            f"GET {question.target}{more} HTTP/1.1\r\nHost: {question.host}\r\n\r\n".encode()
        )
        status = self._line().split(" ", 2)[1]
        while line := self._line():
            name, _, value = line.lower().partition(": ")
            self._left = int(value) if name == "content-length" else self._left
            self.closes |= (name, value) == ("connection", "close")
        if status != "200":
            return f"({status})"
        first = self._stream.readline()
        self._left -= len(first)
        return first.decode().strip()

    def rest(self) -> str:
        text = self._stream.read(self._left)
        if len(text) < self._left:
            raise ConnectionResetError(f"{self._left - len(text)} bytes are missing")
        self._left = 0
        return text.decode("latin-1")

    def _line(self) -> str:
        line = self._stream.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError(f"closed after {line!r}")
        return line[:-2].decode("latin-1")

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
