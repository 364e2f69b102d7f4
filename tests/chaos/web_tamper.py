"""What somebody else does by hand to HAProxy's maps, servers and ports in a chaos run of Routes by
host."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path

from web_world import PODS, PORTS, WebWorld
from world import MARK_PORT

from sidecar.haproxy.naming import backend_name, frontend_name, web_backend, web_backend_name
from sidecar.haproxy.state import ObservedServer
from sidecar.model.desired import BackendName
from sidecar.model.pool import PARKED, WebClassName


def commands(
    dice: random.Random,
    maps: Mapping[str, Path],
    shown: Callable[[str], Mapping[str, str]],
    servers: Mapping[BackendName, Mapping[str, ObservedServer]],
    world: WebWorld,
) -> tuple[BackendName, list[str]]:
    """A backend that they may name, and the commands. ``shown``: a map, as HAProxy has it."""
    kind = dice.choices([*maps], (5, 2, 3))[0]
    of: WebClassName = "http" if kind == "http" else "passthrough"
    port = dice.choice(PORTS)
    before = {"http": "0", "passthrough": "", "ports": f"{port}/"}[kind]
    behind = "/" if kind == "http" else ""
    file, key = maps[kind], dice.choice([*shown(kind), f"{before}one.example{behind}"])
    unit = web_backend_name(of, dice.randrange(1, 1 + min(4, world.backends[of])))
    ports = {backend_name(int(port)) for port in PORTS}
    used = [
        f"{name}/{item.name}"
        for name, slots in servers.items()
        for item in slots.values()
        if (web_backend(name) or name in ports) and item.address != PARKED
    ]
    # A slot of a port that is shared, or nobody's, makes it one Route's to HAProxy.
    server = dice.choice([*used, f"{unit}/s1", f"{backend_name(int(port))}/s1"])
    pod = world.ips[dice.choice(PODS)]
    ways = [
        [f"del map {file} {key}"],
        [f"set map {file} {key} {unit}"],
        [f"set map {file} {key} nonsense"],
        [f"add map {file} {key} {unit}"],
        [f"add map {file} {before}foreign.example{behind} {unit}"],
        [f"add map {file} {before}foreign.example nonsense"],
        [f"add map {file} {before}one.example/zz be_tcp-{MARK_PORT}"],
        [f"clear map {file}"],
        [f"disable frontend {frontend_name(int(port))}"],
        [f"enable frontend {frontend_name(int(port))}"],
        [f"set server {server} state maint"],
        [f"set server {server} state drain"],
        [f"set server {server} addr {pod} port 9000"],
        [f"set server {server} addr {pod} port 9000", f"set server {server} state ready"],
    ]
    return unit, dice.choice(ways)
