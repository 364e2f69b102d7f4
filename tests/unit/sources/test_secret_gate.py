"""`sidecar.sources.kubernetes.secrets.SecretGate`: a Route comes behind what its Secret holds."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from follow import Recorder
from stand import await_, route

from sidecar.common.secret_text import SecretText
from sidecar.model.change import Change, Problem
from sidecar.model.objects import (
    TLS_SECRET,
    Key,
    Object,
    Route,
    RouteStatus,
    RouteTLS,
    Secret,
    secret_key,
)
from sidecar.routing.web_tls import secret_of
from sidecar.sources.kubernetes.secrets import SecretGate, Tell

#: Nobody waits for so long.
LONG_SECONDS = 600.0


class Told:
    """A `Follower` that a test speaks for. ``state``: made, started, loaded or ended."""

    def __init__(self, key: Key, tell: Tell, tell_unread: Tell) -> None:
        self.key, self.tell, self.tell_unread = key, tell, tell_unread
        self.state = "made"

    def start(self) -> None:
        self.state = "started"

    def load(self) -> None:
        self.state = "loaded"
        self.found()

    def end(self) -> None:
        self.state = "ended"

    def found(self, text: str = "pem") -> None:
        self.tell(secret(self.key.name, text), ())


class Gated:
    """A gate, what came out of it in order, and who is followed."""

    def __init__(self, most: int = 3, wait_seconds: float = LONG_SECONDS, **others: Any) -> None:
        self.sink = Recorder()
        self.passed: list[Key] = []
        self.made: dict[str, Told] = {}
        outer = self

        class Sink:
            def publish(
                self, origin: str, changes: Sequence[Change], problems: Sequence[Problem]
            ) -> None:
                outer.passed += [change.key for change in changes]
                outer.sink.publish(origin, changes, problems)

        self.gate = SecretGate(
            Sink(), secret_of, self._make, most=most, wait_seconds=wait_seconds, **others
        )

    def _make(self, key: Key, tell: Tell, tell_unread: Tell) -> Told:
        self.made[key.name] = Told(key, tell, tell_unread)
        return self.made[key.name]

    def publish(self, *objects: Object, origin: str = "routes") -> None:
        self.gate.publish(origin, [Change(item.key, item) for item in objects], ())

    def remove(self, *objects: Object, origin: str = "routes") -> None:
        self.gate.publish(origin, [Change(item.key, None) for item in objects], ())

    def names(self, kind: str = "Route") -> set[str]:
        return self.sink.names(kind)

    def secret(self, name: str) -> Secret | None:
        found = self.sink.objects.get(secret_key("demo", name))
        return found if isinstance(found, Secret) else None

    @property
    def followed(self) -> set[str]:
        return {name for name, item in self.made.items() if item.state == "started"}


def by_host(name: str, of: str = "", **rest: Any) -> Route:
    tls = RouteTLS("edge", external_certificate=of)
    return replace(route(name, None, router_name=None, **rest), tls=tls)


def status(name: str) -> RouteStatus:
    return RouteStatus("demo", name, name, "1", "", None)


def secret(name: str, text: str = "pem") -> Secret:
    return Secret("demo", name, TLS_SECRET, SecretText(text), SecretText(text))


def test_the_first_publication_waits_as_a_whole() -> None:
    gated = Gated()
    gated.publish(by_host("plain"), by_host("one", "a"), status("one"), by_host("two", "b"))
    gated.publish(by_host("more"))
    gated.publish(origin="services")
    assert gated.sink.problems.keys() == {"services"}
    gated.made["a"].found()
    assert "routes" not in gated.sink.problems
    gated.made["b"].found()
    assert gated.names() == {"plain", "one", "two", "more"}
    assert gated.passed[:2] == [secret_key("demo", "a"), secret_key("demo", "b")]


def test_later_only_who_refers_to_it_waits() -> None:
    gated = Gated()
    gated.publish()
    gated.publish(by_host("plain"), by_host("one", "a"), status("one"), status("plain"))
    assert gated.names() == gated.names("RouteStatus") == {"plain"}
    gated.publish(by_host("one", "a", target_port="80"))
    assert gated.names() == {"plain"}
    gated.made["a"].found()
    assert gated.names() == gated.names("RouteStatus") == {"plain", "one"}
    found = gated.sink.route("one")
    assert found
    assert found.target_port == "80"
    assert gated.passed[2:] == [secret_key("demo", "a"), status("one").key, by_host("one").key]


def test_a_route_that_goes_meanwhile_does_not_come_back() -> None:
    gated = Gated()
    gated.publish()
    gated.publish(by_host("one", "a"))
    # As when the Namespace is not selected any more.
    gated.remove(by_host("one"), origin="namespaces")
    assert gated.made["a"].state == "ended"
    gated.made["a"].found()
    assert gated.names() == set()
    assert gated.secret("a") is None


def test_a_secret_goes_with_the_last_route_that_refers_to_it() -> None:
    gated = Gated()
    gated.publish(by_host("one", "a"), by_host("two", "a"))
    gated.made["a"].found()
    gated.remove(by_host("one"))
    assert gated.secret("a") == secret("a")
    gated.publish(by_host("two", "b"))
    # That Route waits; what it has until then is of no use without the Secret.
    assert gated.followed == {"b"}
    assert gated.secret("a") is None
    gated.made["a"].found()
    assert gated.secret("a") is None


def test_another_version_passes_and_so_does_its_end() -> None:
    gated = Gated()
    gated.publish(by_host("one", "a"))
    gated.made["a"].found("1")
    gated.made["a"].found("2")
    assert gated.secret("a") == secret("a", "2")
    gated.made["a"].tell(None, ())
    assert gated.secret("a") is None
    assert gated.names() == {"one"}


def test_what_cannot_be_read_is_waited_for_but_not_for_ever() -> None:
    gated = Gated(wait_seconds=0.2)
    gated.publish(by_host("one", "a"), by_host("two", "b"), by_host("three", "c"))
    problem = Problem("/secrets/a", secret_key("demo", "a"), "", "cannot be read: broken")
    gated.made["a"].tell_unread(
        Secret("demo", "a", problem="cannot be read: broken", unread=True), [problem]
    )
    gated.made["c"].found()
    assert gated.sink.told("secrets") == str(problem)
    assert gated.names() == set()
    await_(lambda: gated.names() == {"one", "two", "three"}, "its time is over", 10)
    assert gated.secret("a") == Secret("demo", "a", problem="cannot be read: broken", unread=True)
    assert gated.secret("b") == Secret("demo", "b", problem="has not been read yet", unread=True)
    gated.made["a"].found()
    assert gated.secret("a") == secret("a")
    assert gated.sink.told("secrets") == ""


def test_there_is_a_bound() -> None:
    gated = Gated(most=2)
    gated.publish(*(by_host(f"r{name}", name) for name in "abc"))
    assert gated.followed == {"a", "b"}
    found = gated.secret("c")
    assert found
    assert found.problem.startswith("is not read: this router reads 2 at most; let Routes share")
    gated.made["a"].found()
    gated.made["b"].found()
    assert len(gated.names()) == 3
    gated.remove(by_host("ra"))
    assert gated.followed == {"b", "c"}
    gated.made["c"].found()
    assert gated.secret("c") == secret("c")


def test_to_read_once_nobody_is_followed() -> None:
    gated = Gated(reads_once=True)
    gated.publish(by_host("one", "a"), by_host("plain"))
    assert gated.made["a"].state == "made"
    gated.gate.load()
    assert gated.made["a"].state == "loaded"
    assert gated.names() == {"one", "plain"}
    assert threading.active_count() == len(threading.enumerate())


def test_all_end_with_it() -> None:
    gated = Gated()
    gated.publish(by_host("one", "a"), by_host("two", "b"))
    gated.gate.close()
    assert {item.state for item in gated.made.values()} == {"ended"}
