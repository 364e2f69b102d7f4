"""The processes of a chaos run that are stopped or killed: the sidecar with its parent, HAProxy."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import yaml
from crowds import fetch
from rig import Clients
from sources import Origin
from stand import Stand, await_, worker_of


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)
    if process.stdin is not None:
        process.stdin.close()


class Sidecar:
    """A sidecar and its parent. The next ones are always waiting, so that a restart takes no time.

    ``steady``: the worker was ready once, and is alive since.
    """

    def __init__(self, stand: Stand, socket_path: str, source: Origin) -> None:
        settings = stand.folder / "chaos.yaml"
        data = stand.settings_data
        haproxy = data["haproxy"] | {"socket": socket_path, "timeout": "500ms"}
        section = {**data["source"], **source.settings}
        settings.write_text(yaml.safe_dump({**data, "haproxy": haproxy, "source": section}))
        program = Path(__file__).with_name("fed.py")
        self._command = [sys.executable, *map(str, (program, settings)), *source.arguments]
        self.log = stand.folder / "sidecar.log"
        self.steady = False
        self._ready_url = f"http://{stand.settings.http.listen}/readyz"
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._spare = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        path = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with self.log.open("ab") as log:
            return subprocess.Popen(self._command, stdin=subprocess.PIPE, stderr=log, env=path)

    def start(self) -> None:
        """Nothing if one runs already."""
        with self._lock:
            if self._process is None:
                self._process, self._spare = self._spare, self._spawn()
                assert self._process.stdin
                self._process.stdin.write(b"!")
                self._process.stdin.flush()

    def kill(self) -> None:
        """With its parent."""
        self.steady = False
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                end(process)

    def kill_worker(self, lives_seconds: Sequence[float] = (0.0,)) -> None:
        """Again and again, each so long after there was one. Its parent starts another."""
        for life_seconds in lives_seconds:
            self.steady = False
            with self._lock:
                if self._process is None:
                    return
                worker = await_(self._worker, "there is a worker again")
                time.sleep(life_seconds)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)

    def _worker(self) -> int:
        assert self._process
        with contextlib.suppress(AssertionError):
            return worker_of(self._process.pid)
        return 0

    def not_ready(self) -> str:
        """What /readyz says; "" if all is as desired."""
        process = self._process
        if process is None or process.poll() is not None:
            raise AssertionError(f"the sidecar ended by itself:\n{self.log.read_text()[-3000:]}")
        try:
            _, said = fetch(self._ready_url)
        except OSError as exc:
            return str(exc)
        self.steady = True
        # It may say of a full port, too.
        return "" if said.partition(";")[0] == "ok" else said

    def close(self) -> None:
        self.kill()
        end(self._spare)


class Freezer:
    """Stops HAProxy for a moment, while all others go on."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._timer = threading.Timer(0.0, int)

    def freeze(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.await_thaw()
        self._clients.frozen += 1
        process.send_signal(signal.SIGSTOP)
        self._timer = threading.Timer(seconds, self._thaw, (process,))
        self._timer.start()

    def await_thaw(self) -> None:
        if self._timer.is_alive():
            self._timer.join()

    def _thaw(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGCONT)
        self._clients.frozen += 1
