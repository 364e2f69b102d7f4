"""HAProxy as a child process, for the laptop: find it, start it, keep it, stop it.

On Kubernetes HAProxy is a container of its own and none of this runs. Owns nothing of what
HAProxy is told.
"""

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from sidecar.common.errors import HAProxyError, RuntimeAPIError
from sidecar.common.supervisor import dying_with
from sidecar.common.text import reason_of
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.state import ProcessInfo, parse_info
from sidecar.model.pool import Pool

log = logging.getLogger(__name__)

#: The environment variable that names the HAProxy to run, instead of the one in PATH.
HAPROXY_VARIABLE = "HAPROXY"

# Debian keeps haproxy where a user's PATH often does not look.
_ALSO = "/usr/local/sbin:/usr/sbin:/sbin"

_ENDING = (signal.SIGINT, signal.SIGTERM)
_START_SECONDS = 30.0
_STOP_SECONDS = 5.0


def find_haproxy(environment: Mapping[str, str]) -> str:
    """HAProxy's path. Raises HAProxyError with how to get one."""
    wanted = environment.get(HAPROXY_VARIABLE) or "haproxy"
    path = os.pathsep.join([environment.get("PATH", ""), _ALSO])
    found = shutil.which(wanted, path=path)
    if not found:
        raise HAProxyError(
            f"{wanted!r} not found; install HAProxy 2.6 or later (apt-get install haproxy,"
            f" dnf install haproxy), or set {HAPROXY_VARIABLE} to its path"
        )
    return found


def answering(address: str) -> ProcessInfo | None:
    """The HAProxy that answers at ``address`` already, or None."""
    with RuntimeClient(address, timeout_seconds=2.0) as client:
        try:
            return parse_info(client.ask("show info"))
        except RuntimeAPIError:
            return None


def refuse_busy_ports(pool: Pool) -> None:
    """Raise HAProxyError if something else listens on a port of the pool: HAProxy would refuse to
    start, naming the first one only."""
    busy = []
    for where in pool.binds():
        family = socket.AF_INET6 if ":" in where.ip else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(where)
            except OSError as exc:
                busy.append(f"{where.ip} port {where.port}: {reason_of(exc)}")
    if busy:
        keys = "pools.ports or listeners" if pool.web else "pools.ports"
        more = f"\n  and {len(busy) - 5} more" if len(busy) > 5 else ""
        raise HAProxyError(
            "HAProxy cannot listen on all ports of the pool:\n  "
            + "\n  ".join(busy[:5])
            + more
            + "\nstop the processes using them (ss -ltnp shows which), or remove the ports from"
            + f" {keys}"
        )


class HAProxyChild:
    """A HAProxy that lives as long as this object's `stop` is not called.

    Its output, with the log line of each connection, goes to ``log_file``.
    """

    def __init__(self, binary: str, config: Path, log_file: Path, address: str) -> None:
        self._command = [binary, "-db", "-f", str(config)]
        self._log_file = log_file
        self._address = address
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._log_offset = 0

    def start(self) -> ProcessInfo:
        """Start it and wait until it answers. Raises HAProxyError with what HAProxy said."""
        self._spawn()
        process = self._process
        if process is None:
            raise HAProxyError("HAProxy was not started")

        def look() -> ProcessInfo | None:
            if process.poll() is not None:
                raise HAProxyError(
                    f"HAProxy stopped at once (exit code {process.returncode}):\n{self._alerts()}"
                )
            info = answering(self._address)
            return info if info and info.pid == process.pid else None

        try:
            info = Retrying(
                retry=retry_if_result(lambda found: found is None),
                stop=stop_after_delay(_START_SECONDS),
                wait=wait_fixed(0.05),
            )(look)
        except RetryError as exc:
            self.stop()
            raise HAProxyError(
                f"HAProxy did not answer at {self._address} in {_START_SECONDS:g} s:"
                f"\n{self._alerts()}"
            ) from exc
        except BaseException:
            self.stop()
            raise
        if info is None:
            raise HAProxyError("HAProxy did not answer")
        return info

    def supervise(self) -> None:
        """Start it again whenever it ends, as a kubelet would; from a thread of its own."""
        threading.Thread(target=self._supervise, name="haproxy", daemon=True).start()

    def stop(self) -> None:
        """End it, at the latest after some seconds."""
        self._stopping.set()
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _supervise(self) -> None:
        delay = 0.1
        while not self._stopping.is_set():
            process = self._process
            if process is None:
                return
            started = time.monotonic()
            code = process.wait()
            if self._stopping.is_set():
                return
            log.error("HAProxy (PID %d) exited with code %d; restarting it", process.pid, code)
            delay = 0.1 if time.monotonic() - started > 10 else min(delay * 2, 10.0)
            self._stopping.wait(delay)
            if not self._stopping.is_set():
                self._spawn()

    def _spawn(self) -> None:
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("ab") as output:
            self._log_offset = output.tell()
            # A Ctrl-C between fork and exec must not run our handlers in the child.
            unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
            try:
                self._process = subprocess.Popen(  # noqa: S603  the user's own HAProxy
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    # Ctrl-C is for us: we stop HAProxy when we have said goodbye.
                    start_new_session=True,
                    preexec_fn=_before_exec(os.getpid(), unblocked),  # noqa: PLW1509
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)

    def _alerts(self) -> str:
        """What HAProxy said since it was started, its alerts first."""
        with contextlib.suppress(OSError), self._log_file.open("rb") as file:
            file.seek(self._log_offset)
            lines = file.read(64 * 1024).decode(errors="replace").splitlines()
            chosen = [line for line in lines if "[ALERT]" in line] or lines
            return "\n".join(f"  {line}" for line in chosen[:8])
        return f"  (see {self._log_file})"


def _before_exec(parent: int, unblocked: Iterable[int]) -> Callable[[], None]:
    """What the child does between fork and exec: take the signals of a fresh process, and ask to
    be ended when this process is gone, so that even a killed sidecar leaves no HAProxy behind."""
    die_with_parent = dying_with(parent, signal.SIGTERM)

    def prepare() -> None:
        for number in _ENDING:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        die_with_parent()

    return prepare
