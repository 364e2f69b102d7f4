"""What HAProxy should be, free of Kubernetes and of any kind of listener: the words between the
packages that decide.

A *claim key* is what a client asks for: a port, or what it is found by in one of HAProxy's maps,
such as a host with a path. A *unit* is what converges, fails, is held and is explained by itself: a
backend. Which keys lead to which unit, a
kind of listener knows (`sidecar.listeners.base`). Pure values.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, NewType, Protocol

from sidecar.model.pool import Address, HealthCheck

#: A backend of haproxy.cfg, by its name there.
BackendName = NewType("BackendName", str)

#: What is spoken to a server, by HAProxy's name for it, where it is not what all servers of the
#: backend speak: ``h2`` is HTTP/2 in clear.
Proto = Literal["", "h2"]

#: What converges by itself.
Unit = BackendName


class ClaimKey(NamedTuple):
    """What leads clients to a Route. ``listener``: ``tcp`` for a port, else the name of one of
    HAProxy's maps, ``hosts``. ``name``: the port, ``30000``, or the entry of the map."""

    listener: str
    name: str


#: What HAProxy is told of a unit beside its servers, for rules that all units share: the name of a
#: map whose keys are units -> the unit's value there.
Attributes = Mapping[str, str]

#: The one that says how many connections each of a unit's servers may have at a time.
MAXCONN = "pod_connections"

NO_ATTRIBUTES: Attributes = MappingProxyType({})


class DesiredServer(NamedTuple):
    """A server that a unit should have.

    ``weight``: None while it drains, when its weight does not matter.
    ``service``, ``pod``, ``node``: where it comes from, for people.
    """

    address: Address
    state: Literal["ready", "drain"]
    weight: int | None
    service: str
    pod: str | None
    node: str | None
    proto: Proto = ""


class BackendClass(Protocol):
    """What haproxy.cfg gives every backend of a class, as far as planning needs it."""

    @property
    def slot_names(self) -> Collection[str]: ...
    @property
    def slot_set(self) -> frozenset[str]: ...
    @property
    def check(self) -> HealthCheck | None: ...
    @property
    def server_options(self) -> tuple[str, ...]: ...
