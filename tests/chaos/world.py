"""The truth of a chaos run: what exists, how it changes, and what should come of it.

A run is a list of steps drawn from one seed. What each port should lead to is computed here from
the facts alone, with none of sidecar's code.
"""

import random
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, Literal, NamedTuple

PLAIN, CHECKED = tuple(range(30000, 30006)), (31000, 31001)
PORTS = (*PLAIN, *CHECKED)
#: A port whose server shows how far HAProxy is.
MARK_PORT = 32000
SERVICES = "abcde"
#: Servers that listen always, also while nobody has them: who is led astray is greeted. One is on
#: the router's own address, beside its ports.
BESIDE = "beside"
SERVERS = (*(f"e{number}" for number in range(17)), BESIDE)
#: One that has a port of the pool, on an address of its own.
NEAR, NEAR_PORT = "near", PORTS[0]
LIVE = (*SERVERS, NEAR)
#: The router itself, where the port is one of its own.
ITSELF = ("itself", "itself, mapped", "any address")
HTTP_PORT = 8405
OWN_PORTS = (*PORTS, HTTP_PORT)
#: One that refuses; only one, since HAProxy's retries may go to and fro between two.
DEAD = "dead"
_NO_SERVERS = ("no-ip", "169.254.7.7", "10.0.0.1; disable frontend tcp-30000", "::ffff:169.254.1.1")
_NO_PORTS = ("70000", "29999", "http", "30000\nshow info", "-1", "")
AUTO = "auto"
LOOP = 2
QUIET_EVERY = 25
HTTP_CROWD = 300
#: Who loses what in the middle of a batch: the sidecar its connection, or a process its life.
_TRIPS = ("cut", "cut", "worker", "sidecar")
#: Some are longer than the sidecar waits for a reply.
_FROZEN_SECONDS = (0.05, 0.3, 0.8, 1.2)
#: What an API server does to those who watch it: it forgets what they know (as a status, or as an
#: event), breaks off, ends a watch, fails, closes without an answer, lists slowly, is away.
STORMS = ("410", "410 event", "break", "end", "500", "drop", "slow list", "away")

#: ``leaving``: terminating, and serves on. ``unready``: of no use.
State = Literal["ready", "leaving", "unready"]
_STATES: tuple[State, ...] = ("ready", "ready", "leaving", "unready")


class Slice(NamedTuple):
    """An EndpointSlice; ``ends`` is None when it is gone. All of `LOOP` have a port of the router:
    what leads there leads back to it, but for `NEAR` at its own port."""

    service: str
    part: int
    ends: tuple[tuple[str, State], ...] | None
    port: int = 9000

    @property
    def exists(self) -> bool:
        return self.ends is not None


class Service(NamedTuple):
    name: str
    exists: bool


class Route(NamedTuple):
    """``life``: how often it was created; each time it is another one. ``targets``: Services with
    their weights."""

    name: str
    life: int
    exists: bool
    ours: bool
    port: str
    born: int
    targets: tuple[tuple[str, int], ...]

    @property
    def uid(self) -> str:
        return f"{self.name}-{self.life}"


Fact = Slice | Service | Route


class Step(NamedTuple):
    """A method of the run, or of a part of it, and what it is called with."""

    action: str
    arguments: tuple[Any, ...] = ()


class World:
    """All facts, the newest of each thing. ``given``: UID of an ``auto`` Route -> its port, as far
    as that is known: one that lost its port is given another."""

    def __init__(self) -> None:
        self.facts: dict[tuple[object, ...], Fact] = {}
        self.given: dict[str, int] = {}

    def take(self, facts: Iterable[Fact]) -> None:
        for fact in facts:
            self.facts[_key(fact)] = fact
        owners = {port: self.owner(port) for port in self.given.values()}
        self.given = {
            uid: port
            for uid, port in self.given.items()
            if (owner := owners[port]) and owner.uid == uid and owner.port == AUTO
        }

    def touched(self, facts: Iterable[Fact]) -> set[int]:
        """The ports that may change, in whatever order each of ``facts`` becomes known."""
        facts = [fact for fact in facts if self.facts.get(_key(fact)) != fact]
        routes = [item for item in (*self.facts.values(), *facts) if isinstance(item, Route)]
        changed = {item.name for item in facts if isinstance(item, Route)}
        services = {item[0] for item in facts if not isinstance(item, Route)}
        ports: set[int] = set()
        for item in routes:
            if item.name in changed or any(name in services for name, _ in item.targets):
                ports.update(PLAIN if item.port == AUTO else ())
                ports.update(port for port in PORTS if item.port == str(port))
        return ports

    @property
    def routes(self) -> list[Route]:
        """Those that count."""
        found = (item for item in self.facts.values() if isinstance(item, Route))
        return [item for item in found if item.exists and item.ours]

    @property
    def autos(self) -> dict[str, Route]:
        """UID -> Route, of those that let the sidecar choose."""
        return {item.uid: item for item in self.routes if item.port == AUTO}

    def owner(self, port: int) -> Route | None:
        """The oldest Route that claims ``port``."""
        claims = [
            item
            for item in self.routes
            if item.port == str(port) or (item.port == AUTO and self.given.get(item.uid) == port)
        ]
        return min(claims, key=lambda item: (item.born, item.uid), default=None)

    def wanted(self, port: int) -> dict[str, Fraction]:
        """Server -> its share of the port's connections; 0: only sessions that are there."""
        owner = self.owner(port)
        return self.servers(owner) if owner else {}

    def takers(self, port: int) -> dict[str, Fraction]:
        return {name: share for name, share in self.wanted(port).items() if share}

    def serves(self, port: int) -> bool:
        """Whether a connection should find a server."""
        return any(name in LIVE for name in self.takers(port))

    def servers(self, route: Route) -> dict[str, Fraction]:
        targets = [(weight, self._ends(name)) for name, weight in route.targets]
        fresh = any(weight and "ready" in ends.values() for weight, ends in targets)
        shares = dict.fromkeys((name for _, ends in targets for name in ends), Fraction(0))
        for weight, ends in targets:
            takers = [name for name, state in ends.items() if state == "ready" or not fresh]
            for name in takers:
                shares[name] += Fraction(weight, len(takers))
        return shares

    def _ends(self, service: str) -> dict[str, State]:
        """The Service's servers that are of use; one that is in two states is ready."""
        known = self.facts.get((service,))
        found: dict[str, State] = {}
        for part in (0, 1, LOOP):
            item = self.facts.get((service, part))
            ends = item.ends if isinstance(item, Slice) else None
            for name, state in ends or ():
                if name in (*LIVE, DEAD) and state != "unready" and found.get(name) != "ready":
                    found[name] = state
        return found if isinstance(known, Service) and known.exists else {}


def _key(fact: Fact) -> tuple[object, ...]:
    return fact[:2] if isinstance(fact, Slice) else fact[:1]


class Dice:
    """Draws the steps of a run: the same of the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._world = World()
        self._held: set[int] = set()
        self._crowds: set[str] = set()
        self._count = 0

    def first(self) -> Step:
        """Something to begin with."""
        facts: list[Fact] = [Service(name, exists=True) for name in SERVICES]
        for name in SERVICES:
            ends = self._random.sample(SERVERS, 3)
            facts.append(Slice(name, 0, tuple((end, "ready") for end in ends)))
        for number, name in enumerate(SERVICES[:4]):
            targets = ((name, 1),)
            facts.append(Route(f"r{number}", 0, True, True, str(PORTS[number * 2]), 50, targets))
        self._world.take(facts)
        return Step("tell", (facts,))

    def step(self) -> Step:
        self._count += 1
        number, rest = divmod(self._count, QUIET_EVERY)
        if not rest:
            return Step("be_quiet" if number % 10 else "restart_alone", (number % 5 == 0,))
        dice = self._random
        draws: dict[Callable[[], Step], int] = {
            lambda: Step("tell", ([self._fact()],)): 38,
            self._burst: 6,
            self._flap: 3,
            lambda: Step("relist"): 2,
            lambda: Step("clients.stay", (dice.choice(PORTS),)): 20,
            lambda: Step("clients.hang_up", (dice.randrange(1000),)): 9,
            lambda: Step("relay.await_commands", (dice.choice((1, 3, 10, 30)),)): 10,
            self._drift: 6,
            self._hold: 3,
            self._fault: 5,
            lambda: Step("trip", (dice.randrange(1, 12), dice.choice(_TRIPS))): 4,
            self._kill_worker: 2,
            lambda: Step("sidecar.kill"): 1,
            lambda: Step("sidecar.start"): 4,
            lambda: Step("kill_haproxy", (dice.random() < 0.3,)): 1,
            lambda: Step("freeze_haproxy", (dice.choice(_FROZEN_SECONDS),)): 1,
            self._crowd: 3,
            lambda: Step("source.storm", (dice.choice(STORMS),)): 4,
        }
        return dice.choices(list(draws), list(draws.values()))[0]()

    def _burst(self) -> Step:
        """Many changes at once, some of them twice, in any order; what came last holds."""
        facts = [self._fact() for _ in range(self._random.randrange(4, 30))]
        facts += self._random.sample(facts, len(facts) // 4)
        self._random.shuffle(facts)
        self._world.take(facts)
        size = self._random.choice((1, 3, len(facts)))
        return Step("tell", tuple(facts[at : at + size] for at in range(0, len(facts), size)))

    def _flap(self) -> Step:
        """One thing changes to and fro."""
        one = self._slice()
        other = self._slice()
        while other.part != one.part:
            other = self._slice()
        other = other._replace(service=one.service)
        self._world.take([other])
        return Step("tell", ([one], [other]) * self._random.randrange(5, 20))

    def _fact(self) -> Fact:
        (draw,) = self._random.choices((self._slice, self._route, self._service), (12, 7, 1))
        fact = draw()
        self._world.take([fact])
        return fact

    def _slice(self) -> Slice:
        dice = self._random
        service, part = dice.choice(SERVICES), dice.choice((*[0] * 10, *[1] * 5, LOOP))
        if part == LOOP:
            return self._loop(service)
        known, kind = self._world.facts.get((service, part)), dice.random()
        if kind < 0.05:
            return Slice(service, part, None)
        if kind < 0.15:
            names = dice.sample((*SERVERS, DEAD), dice.choice((0, 1, 2, 4, 8)))
            return Slice(service, part, tuple((name, "ready") for name in names))
        ends = dict((known.ends if isinstance(known, Slice) else None) or ())
        for _ in range(dice.randrange(1, 4)):
            kind = dice.random()
            if kind < 0.4 or not ends:
                ends[dice.choice((*SERVERS, DEAD))] = "ready"
            elif kind < 0.7:
                ends[dice.choice(list(ends))] = dice.choice(_STATES)
            elif kind < 0.97:
                del ends[dice.choice(list(ends))]
            else:
                ends[dice.choice(_NO_SERVERS)] = "ready"
        return Slice(service, part, tuple(ends.items()))

    def _loop(self, service: str) -> Slice:
        dice = self._random
        if dice.random() < 0.3:
            return Slice(service, LOOP, None)
        port = dice.choice((*OWN_PORTS, NEAR_PORT, NEAR_PORT))
        names = dice.sample(ITSELF, dice.choice((1, 1, 3)))
        if port == NEAR_PORT and dice.random() < 0.7:
            names.append(NEAR)
        ends: tuple[tuple[str, State], ...] = tuple((name, dice.choice(_STATES)) for name in names)
        return Slice(service, LOOP, ends, port)

    def _service(self) -> Service:
        return Service(self._random.choice(SERVICES), exists=self._random.random() < 0.7)

    def _route(self) -> Route:
        dice = self._random
        name, kind, born = f"r{dice.randrange(10)}", dice.random(), dice.randrange(99)
        former = self._world.facts.get((name,))
        if not isinstance(former, Route) or not former.exists:
            life = former.life + 1 if isinstance(former, Route) else 0
            ours = dice.random() < 0.95
            return Route(name, life, True, ours, self._any_port(), born, self._targets())
        if kind < 0.25:
            return former._replace(exists=False)
        if kind < 0.4:
            return former._replace(port=self._any_port())
        if kind < 0.5:
            return former._replace(born=born)
        if kind < 0.6:  # deleted and created again, and nobody saw it gone
            return former._replace(life=former.life + 1)
        return former._replace(targets=self._targets())

    def _any_port(self) -> str:
        kind = self._random.random()
        if kind < 0.2:
            return AUTO
        return self._random.choice(_NO_PORTS if kind < 0.28 else tuple(map(str, PORTS)))

    def _targets(self) -> tuple[tuple[str, int], ...]:
        names = self._random.sample(SERVICES, self._random.choice((1, 1, 2, 3)))
        return tuple((name, self._random.choice((0, 1, 10, 100, 256))) for name in names)

    def _drift(self) -> Step:
        """``{e1}`` stands for that server's IP."""
        dice = self._random
        port, ip = dice.choice(PORTS), f"{{{dice.choice(SERVERS)}}}"
        backend = f"be_tcp-{port}"
        name = f"{backend}/{dice.choice(('s1', 's2', 's3', 'x1'))}"
        server = f"set server {name}"
        choices: list[tuple[str, ...]] = [
            (f"{server} state {dice.choice(('maint', 'drain', 'ready'))}",),
            (f"{server} addr {ip} port 9000",),
            (f"{server} addr {ip} port 9000", f"{server} state ready"),
            (f"{server} weight {dice.choice((0, 1, 77))}",),
            (f"disable frontend tcp-{port}",),
            (f"enable frontend tcp-{port}",),
            (f"add server {backend}/x2 {ip}:9000", f"set server {backend}/x2 state ready"),
            (f"add server {backend}/x2 {ip}:9000 check", f"set server {backend}/x2 state ready"),
            (f"set server {backend}/x1 state maint", f"del server {backend}/x1"),
            (f"{server} health down",),
            (f"disable health {name}",),
        ]
        return Step("drift", (port, *dice.choice(choices)))

    def _hold(self) -> Step:
        if self._held and self._random.random() < 0.6:
            port = self._random.choice(sorted(self._held))
            self._held.remove(port)
            return Step("release", (port,))
        port = self._random.choice(PORTS)
        self._held.add(port)
        return Step("hold", (port,))

    def _kill_worker(self) -> Step:
        """Some in a row, each so long after its birth."""
        dice = self._random
        lives = [dice.choice((0.0, 0.01, 0.05, 0.2)) for _ in range(dice.choice((1, 1, 1, 2, 3)))]
        return Step("sidecar.kill_worker", (lives,))

    def _crowd(self) -> Step:
        """One comes, or goes."""
        dice = self._random
        which = dice.choice(("full_port", "http_crowd"))
        if which in self._crowds:
            self._crowds.remove(which)
            return Step(f"{which}.leave")
        self._crowds.add(which)
        where = dice.choice(PORTS) if which == "full_port" else HTTP_CROWD
        return Step(f"{which}.come", (where,))

    def _fault(self) -> Step:
        modes = (
            "hang",
            "stall",
            "cut",
            "nonsense",
            "garbage",
            "refuse",
            "full",
            *["pass", "slow"] * 4,
        )
        return Step("relay.fault", (self._random.choice(modes),))
