"""The ports of a chaos run of Routes by host that may be shared by SNI: clients, and what HAProxy
shows of them. Pods end the TLS there, so that a client sees by a certificate who has it.
"""

import random
import ssl
import time
from collections.abc import Iterator, Mapping

from handshake import shake_hands
from pods import TLS_WANTED, pod_with
from web_certificates import CertificateClients
from web_world import NONE, PORT_QUESTIONS, PORTS, Question, WebWorld

from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.naming import backend_name, frontend_name
from sidecar.haproxy.state import ObservedServer, parse_frontends
from sidecar.model.desired import BackendName


class PassedLine:
    """A client's connection to ``ip:port`` whose TLS a pod ends, which has the certificate and says
    that it is it. Raises OSError, and AssertionError where it is anybody else's."""

    def __init__(self, ip: str, question: Question) -> None:
        address = (ip, int(question.port))
        self._socket = shake_hands(address, question.host or None, [TLS_WANTED])
        try:
            self.pod = pod_with(self._socket.getpeercert(binary_form=True) or b"")
            assert self.pod, f"{question}: TLS ended with a certificate of no pod"
            said = self._read(len(self.pod) + 1)
            assert said == f"{self.pod}\n", (
                f"{question}: {said!r} has the certificate of {self.pod}"
            )
        except BaseException:
            self.close()
            raise

    def echo(self) -> None:
        self._socket.sendall(b"ping")
        assert self._read(4) == "ping", "no echo"

    def _read(self, count: int) -> str:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            if not more:
                raise ConnectionResetError(f"closed after {data!r}")
            data += more
        return data.decode()

    def close(self) -> None:
        self._socket.close()


def answer_of(exc: OSError) -> str:
    """What a client has that got no pod. One who waits in vain, or understands nothing of what
    comes, is none of those who are not let in."""
    closed = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
    return NONE if isinstance(exc, closed) else f"({exc!r})"


def ask(ip: str, question: Question) -> str:
    """The pod that answers; in parentheses why none does."""
    try:
        line = PassedLine(ip, question)
    except OSError as exc:
        return answer_of(exc)
    line.close()
    return line.pod


class PortClients(CertificateClients):
    """And some who come to the ports: most of them for a moment, one who stays."""

    def __init__(self, http: tuple[str, int], tls: tuple[str, int], ip: str, seed: int) -> None:
        super().__init__(http, tls, seed)
        self._ip = ip
        for what in (self._come, self._come, self._come_and_stay):
            self.add(what)

    def _come(self, dice: random.Random) -> None:
        question = dice.choice(PORT_QUESTIONS)
        started, era = time.time(), self.era
        self.judge(question, ask(self._ip, question), started, era, "port")

    def _come_and_stay(self, dice: random.Random) -> None:
        """A connection that stays, whatever becomes of the port and of its Route."""
        question = dice.choice(PORT_QUESTIONS)
        started, era = time.time(), self.era
        try:
            line = PassedLine(self._ip, question)
        except OSError as exc:
            self.judge(question, answer_of(exc), started, era, "port")
            return
        self.judge(question, line.pod, started, era, "port")
        try:
            for _ in range(dice.randrange(40)):
                if self._stop.wait(0.05):
                    return
                line.echo()
        except OSError as exc:
            self.cut(era, f"port {question} to {line.pod} was cut: {exc!r}")
        finally:
            line.close()


def problems_of(
    client: RuntimeClient,
    world: WebWorld,
    observed: Mapping[BackendName, Mapping[str, ObservedServer]],
    pod_of: Mapping[str, str],
) -> Iterator[str]:
    """What of the ports' own frontends and backends is not as ``world`` says. ``pod_of``: of its
    IP."""
    opened = parse_frontends(client.ask("show stat -1 1 -1"))
    for port in PORTS:
        unit, whole, sharing = backend_name(int(port)), world.whole(port), world.sharing(port)
        slots = observed[unit].values()
        ready = sorted(
            pod_of.get(item.address.ip, str(item.address))
            for item in slots
            if item.state == "ready"
        )
        wanted = sorted(world.ready(whole)) if whole else []
        if ready != wanted:
            yield f"{unit}: ready {ready}, wanted {wanted} of {whole}"
        left = [item for item in slots if item.state != "maint"]
        if whole is None and left:
            yield f"nobody has all of {port}, and {unit} has {left}"
        is_open = opened[frontend_name(int(port))]
        # A whole port whose servers are gone closes a while after; one that is shared never does.
        if is_open != bool(whole or sharing) and (is_open or wanted or sharing):
            yield f"port {port} is {'open' if is_open else 'closed'}, {whole} has it, or {sharing}"
