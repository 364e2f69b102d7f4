"""DNS for the external names that Routes use: looks them up, and publishes the answers.

Owns a thread with an event loop, and one task per name. `sidecar.sources.dns.answers` decides what
an answer means.
"""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver

from sidecar.common.hostport import split_host_port
from sidecar.model.change import Change
from sidecar.model.objects import DNSAnswer, answer_key
from sidecar.sources.dns.answers import Followed, Look, follow

log = logging.getLogger(__name__)

_FAMILIES = ("A", "AAAA")

#: Names that are looked at together, at most; and of those that failed before, so that many that
#: time out do not keep the others waiting.
_LOOKS_MAX = 64
_RETRIES_MAX = 16

#: The file of answers is written at most this often.
_SAVE_SECONDS = 1.0

#: Looks come up to this part later, so that names of one TTL do not stay together.
_JITTER = 0.1


class Follower:
    """Follows names from its beginning to `close`; ``kept`` are the answers of before. In its own
    thread it calls ``publish`` with what is new, and ``save`` with all good answers, which says
    whether they are saved. The rest is as in `Resolver`."""

    def __init__(
        self,
        kept: Iterable[DNSAnswer],
        publish: Callable[[Sequence[Change]], None],
        save: Callable[[Iterable[DNSAnswer]], bool],
        servers: Sequence[str],
        timeout_seconds: float,
        keep_seconds: float,
    ) -> None:
        self._publish = publish
        self._save = save
        self._servers = servers
        self._timeout_seconds = timeout_seconds
        self._keep_seconds = keep_seconds
        # From here on the loop's thread's alone. Name -> what was published last.
        self._answers = {answer.name: answer for answer in kept}
        self._saved = dict(self._answers)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._save_due: asyncio.TimerHandle | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop,), name="dns", daemon=True
        )
        self._thread.start()

    def want(self, names: frozenset[str]) -> None:
        """Follow just these names from now on."""
        self._loop.call_soon_threadsafe(self._adjust, names)

    def close(self) -> None:
        """Ask no more, and save the last answers."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        self._fresh, self._retries = asyncio.Semaphore(_LOOKS_MAX), asyncio.Semaphore(_RETRIES_MAX)
        loop.run_forever()
        for task in self._tasks.values():
            task.cancel()
        loop.run_until_complete(asyncio.gather(*self._tasks.values(), return_exceptions=True))
        self._save_now()
        loop.close()

    def _adjust(self, names: frozenset[str]) -> None:
        for name in self._tasks.keys() - names:
            self._tasks.pop(name).cancel()
        gone = self._answers.keys() - names
        for name in gone:
            del self._answers[name]
        if gone:
            self._publish([Change(answer_key(name), None) for name in gone])
            self._save_soon()
        for name in names - self._tasks.keys():
            self._tasks[name] = asyncio.get_event_loop().create_task(self._follow(name))

    async def _follow(self, name: str) -> None:
        kept = self._answers.get(name)
        addresses = kept.addresses if kept else ()
        followed = Followed(
            (
                tuple(item for item in addresses if ":" not in item),
                tuple(item for item in addresses if ":" in item),
            )
        )
        while True:
            async with self._retries if followed.attempts else self._fresh:
                looks = await asyncio.gather(*(self._look(name, family) for family in _FAMILIES))
            followed = follow(followed, looks, time.monotonic(), self._keep_seconds)
            answer = DNSAnswer(name, followed.addresses, followed.problem)
            if answer != self._answers.get(name):
                self._answers[name] = answer
                self._publish([Change(answer.key, answer)])
                self._save_soon()
            await asyncio.sleep(followed.wait_seconds * random.uniform(1, 1 + _JITTER))  # noqa: S311

    async def _look(self, name: str, family: str) -> Look:
        """Ask once, of whatever servers there are now; never raises but for being cancelled."""
        try:
            # An external name is a CNAME's target (Kubernetes' DNS specification, 2.5), thus
            # absolute: search lists are for what a person types.
            answer = await self._resolver().resolve(
                f"{name}.",
                family,
                raise_on_no_answer=False,
                lifetime=self._timeout_seconds,
                search=False,
            )
            if answer.rrset is None:
                return Look((), 0.0, "DNS has no address for the name", failed=False)
            addresses = tuple(sorted({record.address for record in answer.rrset}))
            return Look(addresses, answer.chaining_result.minimum_ttl, "", failed=False)
        except dns.resolver.NXDOMAIN:
            return Look((), 0.0, "the name does not exist in DNS (NXDOMAIN)", failed=False)
        except dns.resolver.LifetimeTimeout:
            problem = f"DNS did not answer within {self._timeout_seconds:g} s"
        except dns.resolver.NoNameservers as exc:
            problem = f"DNS failed ({_causes(exc.kwargs.get('errors', ()))})"
        except (dns.exception.DNSException, OSError, EOFError) as exc:
            problem = f"DNS failed ({type(exc).__name__})"
        except Exception:
            # A task that ended would leave the name as it is for ever, unnoticed.
            log.exception("DNS: looking up %r failed; keeping its last addresses", name)
            problem = "DNS failed, see the sidecar's log"
        return Look((), 0.0, problem, failed=True)

    def _resolver(self) -> dns.asyncresolver.Resolver:
        resolver = dns.asyncresolver.Resolver(configure=not self._servers)
        if self._servers:
            resolver.nameservers = [
                dns.nameserver.Do53Nameserver(*split_host_port(server)) for server in self._servers
            ]
        return resolver

    def _save_soon(self) -> None:
        if self._save_due is None:
            self._save_due = asyncio.get_event_loop().call_later(_SAVE_SECONDS, self._save_now)

    def _save_now(self) -> None:
        self._save_due = None
        good = {name: answer for name, answer in self._answers.items() if answer.addresses}
        if good == self._saved:
            return
        if self._save(good.values()):
            self._saved = good


def _causes(errors: Iterable[tuple[object, ...]]) -> str:
    """``SERVFAIL``: what the servers said, each cause once."""
    # (server, tcp, port, cause, response) each; the cause is an rcode's name or an exception.
    causes = (error[3] for error in errors)
    words = {cause if isinstance(cause, str) else type(cause).__name__ for cause in causes}
    return ", ".join(sorted(words)) or "no server is left"
