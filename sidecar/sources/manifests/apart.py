"""Large files, each parsed in a separate process with limited time and memory.

In the sidecar's process, parsing would block everything else for seconds, including the loop:
Python runs one thread at a time. Owns those processes. Must not decide what a file means
(`sidecar.sources.manifests.view` does, in both processes), nor read files.
"""

import contextlib
import logging
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from sidecar.model.change import Problem
from sidecar.model.parsing import AnnotationKeys
from sidecar.sources.manifests.view import Parsed, parse_file, printable

log = logging.getLogger(__name__)

#: What a file may take: some 10 s are the most for 16 MiB that mean anything.
_CPU_SECONDS = 60
_MEMORY_BYTES = 2 * 2**30

#: How many at a time; one core stays for HAProxy and for us.
_PROCESSES_MAX = 1


class _Job(NamedTuple):
    process: subprocess.Popen[bytes]
    output: int
    version: tuple[int, ...]


class Apart:
    """At most one process a file; `close` ends all. For one thread."""

    def __init__(self, keys: AnnotationKeys, cpu_seconds: int = _CPU_SECONDS) -> None:
        self._keys = keys
        self._cpu_seconds = cpu_seconds
        self._jobs: dict[str, _Job] = {}

    @property
    def is_full(self) -> bool:
        """Whether another file has to wait."""
        return len(self._jobs) >= _PROCESSES_MAX

    def __contains__(self, name: str) -> bool:
        """Whether the file is being parsed, or was, and nobody has taken the result."""
        return name in self._jobs

    def start(self, name: str, raw: bytes, version: tuple[int, ...]) -> None:
        """Have the bytes parsed, as `parse_file` does."""
        log.info("%s: parsing %.1f MB in a process of its own", printable(name), len(raw) / 1e6)
        given, output = os.memfd_create("file"), os.memfd_create("parsed")
        try:
            with os.fdopen(os.dup(given), "wb") as file:
                pickle.dump((name, raw, self._keys, version), file)
            os.lseek(given, 0, os.SEEK_SET)
            process = subprocess.Popen(  # noqa: S603  ourselves
                [sys.executable, "-m", __name__, str(self._cpu_seconds)],
                stdin=given,
                stdout=output,
                stderr=subprocess.DEVNULL,
            )
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(given)
        self._jobs[name] = _Job(process, output, version)

    def take(self, name: str) -> Parsed | None:
        """What the file held; None while it is being parsed."""
        job = self._jobs[name]
        code = job.process.poll()
        if code is None:
            return None
        del self._jobs[name]
        with os.fdopen(job.output, "rb") as file:
            file.seek(0)
            if code == 0:
                parsed: Parsed = pickle.load(file)  # noqa: S301  we wrote it
                return parsed
        bounds = f"{self._cpu_seconds} s and {_MEMORY_BYTES // 2**30} GiB"
        message = f"takes more than {bounds} to read; split it into smaller files"
        return Parsed((), (Problem(printable(name), None, "", message),), job.version)

    def keep(self, names: Collection[str]) -> None:
        """Give up all other files."""
        for name in [name for name in self._jobs if name not in names]:
            job = self._jobs.pop(name)
            job.process.kill()
            job.process.wait()
            os.close(job.output)

    def close(self) -> None:
        self.keep(())


def main() -> None:
    """The process: parses what stdin has, and writes it to stdout."""
    cpu_seconds = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    os.nice(10)
    # Where memory is short, this shall go before the router does.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    name, raw, keys, version = pickle.load(sys.stdin.buffer)  # noqa: S301  our parent wrote it
    pickle.dump(parse_file(name, raw, keys, version), sys.stdout.buffer)


if __name__ == "__main__":
    main()
