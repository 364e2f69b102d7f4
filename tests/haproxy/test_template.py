"""haproxy.cfg: HAProxy takes it without a warning, and what it then has is the pool."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from stand import (
    HAPROXY,
    EchoServer,
    Stand,
    app,
    await_,
    await_leads_to,
    converged,
    free_port,
    fresh_ip,
    running,
)

from sidecar.cli.render import haproxy_cfg as render
from sidecar.common.errors import SettingsError
from sidecar.haproxy.config import quote, template_path, unavailable_page_path
from sidecar.haproxy.naming import backends_of, port_of_backend
from sidecar.haproxy.operations import Operation, SetAddress, SetState, SetWeight
from sidecar.haproxy.state import parse_servers_state
from sidecar.haproxy.web_files import WebFiles
from sidecar.listeners.tcp import unit_of
from sidecar.model.pool import Address
from sidecar.settings.parsing import parse_settings
from sidecar.settings.schema import Settings
from sidecar.settings.web import ListenerSettings, WebSettings

MakeStand = Callable[..., Stand]
MakeServer = Callable[..., EchoServer]

#: The pools that we try on HAProxy: name -> the settings of `pools`.
POOLS: dict[str, list[dict[str, Any]]] = {
    "one port": [{"ports": ["30000"], "slots": 1}],
    "the defaults": [{"ports": ["13306", "18080", "6620", "30000-30099"]}],
    **{
        f"balance {name}": [{"ports": ["30000"], "balance": name}]
        for name in ("leastconn", "roundrobin", "random", "first", "source")
    },
    "checks": [
        {"ports": ["30000"], "check": {"enabled": True}},
        {
            "ports": ["30001"],
            "check": {"enabled": True, "interval": "1500ms", "rise": 2, "fall": 1},
        },
    ],
    "accept_proxy": [{"ports": ["30000"], "accept_proxy": True}],
    "send_proxy v1": [{"ports": ["30000"], "send_proxy": "v1"}],
    "send_proxy v2": [{"ports": ["30000"], "send_proxy": "v2"}],
    "source": [{"ports": ["30000"], "source": "127.0.0.9", "check": {"enabled": True}}],
    "source, IPv6": [{"ports": ["30000"], "source": "::1"}],
    "shared by SNI": [
        {"ports": ["30000-30001"], "shared_by_sni": True, "check": {"enabled": True}},
        {"ports": ["30002"], "shared_by_sni": True, "accept_proxy": True},
        {"ports": ["30003"]},
    ],
    "all of it": [
        {
            "ports": ["30000-30001"],
            "balance": "source",
            "check": {"enabled": True},
            "accept_proxy": True,
            "send_proxy": "v2",
            "timeouts": {"connect": "1ms", "client": "24d", "server": "1500us"},
        }
    ],
    "several pools": [
        {"ports": ["30000"], "slots": 2, "balance": "roundrobin"},
        {"ports": ["30001", "30003"], "slots": 3, "balance": "first", "send_proxy": "v1"},
        {"ports": ["30002"], "slots": 1, "check": {"enabled": True}},
    ],
    "many slots": [{"ports": ["30000"], "slots": 1000}],
    "ports far apart": [{"ports": [str(port) for port in range(20000, 22000, 2)], "slots": 1}],
}


def check(stand: Stand) -> None:
    """HAProxy finds nothing to say about it."""
    done = subprocess.run(
        [HAPROXY, "-c", "-f", str(stand.settings.haproxy.config)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert not re.search(r"\[(WARNING|ALERT)\]|warning", said, re.IGNORECASE), said


def has_its_pool(stand: Stand) -> None:
    """What runs has every frontend, backend and slot of the pool, and none that is not in it."""
    observed = stand.observed()
    whole = {seen.unit: seen for seen in observed.values()}
    assert list(stand.ports.problems(whole)) == []
    assert list(observed) == list(stand.pool.ports)
    for port, seen in observed.items():
        assert tuple(seen.servers) == stand.pool.slot_names(port)
        assert all(server.state == "maint" for server in seen.servers.values())


def said_nothing(stand: Stand) -> None:
    log = (stand.folder / "haproxy.log").read_text()
    assert "WARNING" not in log
    assert "ALERT" not in log


@pytest.mark.parametrize("pools", POOLS.values(), ids=POOLS.keys())
def test_haproxy_takes_it_without_a_warning_and_has_the_pool(
    make_stand: MakeStand, pools: list[dict[str, Any]]
) -> None:
    stand = make_stand(pools=pools)
    check(stand)
    has_its_pool(stand)
    said_nothing(stand)


@pytest.mark.parametrize("balance", ["leastconn", "roundrobin", "random", "first", "source"])
def test_weights_and_servers_change_live_whatever_the_balance(
    make_stand: MakeStand, make_server: MakeServer, balance: str
) -> None:
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 2, "balance": balance}])
    servers = [make_server(), make_server()]
    wanted = {f"s{n}": server.address for n, server in enumerate(servers, 1)}
    operations: list[Operation] = [
        *(SetAddress(unit_of(30000), name, address) for name, address in wanted.items()),
        SetWeight(unit_of(30000), "s1", 5),
        SetWeight(unit_of(30000), "s2", 0),
    ]
    assert [type(outcome) for outcome in stand.client.apply(operations)] == [str] * 4

    def shown() -> dict[str, Address]:
        return {name: seen.address for name, seen in stand.port(30000).servers.items()}

    await_(lambda: shown() == wanted, "the addresses are shown")
    assert (
        stand.client.apply([SetState(unit_of(30000), name, "ready") for name in wanted]) == [""] * 2
    )
    assert [seen.weight for seen in stand.port(30000).servers.values()] == [5, 0]
    for _ in range(5):
        client = stand.connect(30000)
        assert client.server == servers[0].name
        client.close()


def test_four_thousand_ports(make_stand: MakeStand) -> None:
    stand = make_stand(pools=[{"ports": ["20000-23999"], "slots": 4}])
    check(stand)
    has_its_pool(stand)
    said_nothing(stand)


@pytest.mark.parametrize(
    "addresses",
    [["::1"], ["127.0.0.1", "::1"], ["0.0.0.0"], ["::"], ["0.0.0.0", "::"]],
    ids=" ".join,
)
def test_bind_addresses(make_stand: MakeStand, addresses: list[str]) -> None:
    port = free_port("::" if "::" in addresses else addresses[0])
    stand = make_stand(pools=[{"ports": [str(port)], "slots": 1, "bind": addresses}])
    check(stand)
    has_its_pool(stand)
    said_nothing(stand)
    for address in addresses:
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
        with contextlib.suppress(ConnectionResetError):  # by the guard: nobody claims the port
            socket.create_connection((reachable, port), 5).close()


def haproxy_files(folder: Path, **changes: object) -> dict[str, object]:
    """The settings' section ``haproxy`` with its files in ``folder``."""
    return {
        "socket": str(folder / "admin.sock"),
        "config": str(folder / "haproxy.cfg"),
        "state_file": str(folder / "servers.state"),
        **changes,
    }


@pytest.mark.parametrize("ip", [None, "::1"], ids=["IPv4", "IPv6"])
def test_haproxys_own_metrics(make_stand: MakeStand, tmp_path: Path, ip: str | None) -> None:
    listen = f"[{ip}]:{free_port(ip)}" if ip else f"{fresh_ip()}:8406"
    stand = make_stand(haproxy=haproxy_files(tmp_path, metrics_listen=listen))
    check(stand)
    has_its_pool(stand)
    said_nothing(stand)
    for _ in range(5):
        with urllib.request.urlopen(f"http://{listen}/metrics", timeout=10) as response:
            metrics = response.read().decode()
    assert 'haproxy_frontend_status{proxy="tcp-30000",state="UP"} 1' in metrics
    # Somebody scrapes all day: that is not worth a line of log each.
    stand.stop_haproxy(signal.SIGTERM)
    assert "haproxy-metrics/" not in (stand.folder / "haproxy.log").read_text()


def test_the_limit_of_connections(make_stand: MakeStand, tmp_path: Path) -> None:
    stand = make_stand(haproxy=haproxy_files(tmp_path, maxconn=123))
    check(stand)
    assert "\nMaxconn: 123\n" in stand.client.ask("show info")


@pytest.mark.parametrize("ip", [None, "::1"], ids=["IPv4", "IPv6"])
def test_a_runtime_api_on_tcp(make_stand: MakeStand, tmp_path: Path, ip: str | None) -> None:
    address = f"[{ip}]:{free_port(ip)}" if ip else f"{fresh_ip()}:9999"
    stand = make_stand(haproxy=haproxy_files(tmp_path, socket=address))
    check(stand)
    has_its_pool(stand)
    said_nothing(stand)


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "it's",
        'say "so"',
        "back\\slash",
        "#1",
        "100%",
        "{x}",
        "a;b",
        "a:b",
        "tab\tbed",
        "\xfc",
    ],
)
def test_files_of_any_name(make_stand: MakeStand, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    stand = make_stand(haproxy=haproxy_files(folder))
    check(stand)
    has_its_pool(stand)
    said_nothing(stand)


@pytest.mark.parametrize("name", ["$HOME", "${HOME}", "a$", "$", "\\$HOME", '"$HOME"', "a,b"])
def test_a_state_file_of_any_name(
    make_stand: MakeStand, make_server: MakeServer, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name / "servers.state"
    stand = make_stand(haproxy=haproxy_files(tmp_path, state_file=str(file)))
    check(stand)
    said_nothing(stand)
    # HAProxy really reads it there.
    where = make_server().address
    stand.client.apply([SetAddress(unit_of(30000), "s1", where)])
    await_(lambda: stand.port(30000).servers["s1"].address == where, "the address is shown")
    stand.client.apply([SetState(unit_of(30000), "s1", "ready")])
    file.write_text(stand.client.ask("show servers state") + "\n")
    stand.stop_haproxy()
    stand.client.close()
    stand.start_haproxy()
    assert stand.ready(30000) == [where]


@pytest.mark.parametrize("name", ["a$", "$HOME", "${HOME}", "a,b"])
def test_a_socket_that_haproxy_would_look_for_elsewhere_is_refused(
    make_stand: MakeStand, tmp_path: Path, name: str
) -> None:
    # HAProxy expands variables in an address once more after unquoting it, and splits at commas.
    stand = make_stand(start=False, haproxy=haproxy_files(tmp_path / name))
    with pytest.raises(SettingsError, match=r"haproxy\.socket") as caught:
        render(stand.settings)
    assert str(tmp_path / name / "admin.sock") in str(caught.value)
    assert "choose another path" in str(caught.value)


def test_relative_paths_are_those_of_the_folder_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = render(parse_settings("", {}, "test"))
    assert f'stats socket "{tmp_path}/run/admin.sock"' in text
    assert f'server-state-file "{tmp_path}/run/servers.state"' in text


def test_rendering_is_deterministic(make_stand: MakeStand) -> None:
    data = make_stand(start=False, pools=POOLS["several pools"]).settings_data
    texts = {render(parse_settings(yaml.safe_dump(data), {}, "test")) for _ in range(3)}
    # In another process, with other hashes, too.
    code = (
        "import sys; from sidecar.cli.render import haproxy_cfg;"
        "from sidecar.settings.parsing import parse_settings;"
        "sys.stdout.write(haproxy_cfg(parse_settings(sys.stdin.read(), {}, 'test')))"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=yaml.safe_dump(data),
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        texts.add(done.stdout)
    assert len(texts) == 1


def test_it_says_what_it_is_of() -> None:
    text = render(parse_settings('pools: [{ports: ["6620", "30000-30002"], slots: 5}]', {}, "test"))
    assert "4 ports, 20 server slots.\n" in text
    assert "# Pool default: 6620, 30000-30002; 5 slots each." in text
    text = render(
        parse_settings(
            'listeners: [{name: web, kind: http, bind: ["127.0.0.1:80"]}]\n'
            "web: {backends: {http: 7}}",
            {},
            "test",
        )
    )
    assert "; 37 backends for Routes by host.\n" in text


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", '"plain"'),
        ("a b", '"a b"'),
        ('a"b', '"a\\"b"'),
        ("a\\b", '"a\\\\b"'),
        ("$HOME", '"\\$HOME"'),
        ("it's #1", '"it\'s #1"'),
    ],
)
def test_quoting(text: str, quoted: str) -> None:
    assert quote(text) == quoted


# -- listeners for Routes by host --------------------------------------------------------------


def listener(kind: str, *bind: str) -> dict[str, Any]:
    return {"name": kind, "kind": kind, "bind": list(bind) or [f"{fresh_ip()}:80"]}


def both_listeners() -> list[dict[str, Any]]:
    return [listener("http"), listener("tls")]


@pytest.mark.parametrize(
    ("kinds", "web"),
    [
        (["http"], {}),
        (["tls"], {}),
        (["http", "tls"], {}),
        (["http"], {"backends": {"http": 1}, "slots": 1}),
        (
            ["http", "tls"],
            {
                "backends": {"http": 20, "passthrough": 3},
                "slots": 2,
                "balance": {"http": "leastconn", "passthrough": "roundrobin"},
                "cookie_name": "SRV",
                "timeouts": {
                    "client": "1ms",
                    "server": "24d",
                    "tunnel": "1500us",
                    "http_request": "2s",
                    "keep_alive": "3m",
                    "inspect": "1h",
                },
            },
        ),
        (["http", "tls"], {"balance": {"http": "random", "passthrough": "random"}}),
        (["http", "tls"], {"balance": {"http": "source", "passthrough": "source"}}),
    ],
    ids=["http", "tls", "both", "the least", "all of it", "random", "source"],
)
def test_listeners_and_their_backends(
    make_stand: MakeStand, kinds: list[str], web: dict[str, Any]
) -> None:
    stand = make_stand(listeners=[listener(kind) for kind in kinds], web=web)
    check(stand)
    has_its_pool(stand)
    said_nothing(stand)
    pool = stand.pool.web
    assert pool is not None
    shown = parse_servers_state(stand.client.ask("show servers state"))
    for item in pool.all_classes:
        for backend in backends_of(item):
            servers = shown.pop(backend)
            assert tuple(servers) == item.slot_names
            weight = 1 if item.balance in ("random", "source") else 256
            assert {(seen.state, seen.weight) for seen in servers.values()} == {("maint", weight)}
    assert all(port_of_backend(name) for name in shown)
    for each in pool.listeners:
        for address in each.bind:
            socket.create_connection(address, 5).close()


def test_who_waits_for_a_server_has_longer_than_who_connects_to_one(make_stand: MakeStand) -> None:
    """Where nothing is said, HAProxy takes the time to connect for it."""
    text = render(make_stand(start=False, listeners=both_listeners()).settings)
    found = {part.split()[0]: part for part in re.split(r"^defaults ", text, flags=re.MULTILINE)}
    queues = {name for name, part in found.items() if "\n    timeout queue 5s\n" in part}
    assert queues == {name for name in found if name.startswith("route")}
    assert queues >= {"route", "route-reencrypt", "route-passthrough"}


def test_two_listeners_of_a_kind_and_addresses_of_both_families(make_stand: MakeStand) -> None:
    port = free_port("::")
    listeners = [
        listener("http", f"0.0.0.0:{port}", f"[::]:{port}"),
        {**listener("http"), "name": "inside"},
        listener("tls", f"{fresh_ip()}:443", f"{fresh_ip()}:8443"),
        {**listener("tls"), "name": "inside.tls"},
    ]
    stand = make_stand(listeners=listeners)
    check(stand)
    said_nothing(stand)
    for ip in ("127.0.0.1", "::1"):
        socket.create_connection((ip, port), 5).close()


def test_without_listeners_nothing_of_them_is_there(make_stand: MakeStand) -> None:
    stand = make_stand(web={"slots": 3, "backends": {"http": 7}})
    text = stand.settings.haproxy.config.read_text()
    without_web = stand.settings.model_copy(update={"web": WebSettings()})
    assert render(stand.settings) == render(without_web)
    for word in ("be_http", "be_pass", "503", "no-memory-trimming"):
        assert word not in text
    files = WebFiles.beside(stand.settings.haproxy.state_file)
    named = set(re.findall(r"map_\w+\(([^)]*)\)", text))
    assert named == {str(path) for path in files.port_maps if path.exists()}
    assert len(named) == 3
    assert not [path for path in (*files.maps, files.unavailable_page) if path.exists()]


def test_rendering_again_keeps_what_is_in_the_maps(make_stand: MakeStand) -> None:
    stand = make_stand(start=False, listeners=both_listeners())
    files = WebFiles.beside(stand.settings.haproxy.state_file)
    files.hosts_map.parent.mkdir()
    files.hosts_map.write_text("0h.test? be_http_1\n0h.test/ be_http_1\n")
    files.unavailable_page.write_text("of an older version")
    stand.start()
    shown = stand.client.ask(f"show map {files.hosts_map}")
    assert re.sub(r"0x\w+ ", "", shown).split("\n")[:2] == [
        "0h.test? be_http_1",
        "0h.test/ be_http_1",
    ]
    assert files.sni_map.read_text() == ""
    assert files.unavailable_page.read_bytes() == unavailable_page_path().read_bytes()


@pytest.mark.parametrize(
    "name", ["a b", "a,b", "a(b", "$HOME", 'say "so"', "it's", "a\\b", "a#b", "\xfc"]
)
def test_a_folder_in_which_haproxy_would_not_find_its_maps_is_refused(
    make_stand: MakeStand, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name / "servers.state"
    stand = make_stand(
        start=False,
        listeners=both_listeners(),
        haproxy=haproxy_files(tmp_path, state_file=str(file)),
    )
    with pytest.raises(SettingsError, match=r"haproxy\.state_file") as caught:
        render(stand.settings)
    assert str(tmp_path / name / "maps") in str(caught.value)
    assert "choose a path without" in str(caught.value)


@pytest.mark.parametrize("name", ["a@b+c=d~e", "a:b", "1.2-3_4"])
def test_a_folder_in_which_it_does(make_stand: MakeStand, tmp_path: Path, name: str) -> None:
    file = tmp_path / name / "servers.state"
    stand = make_stand(
        listeners=both_listeners(), haproxy=haproxy_files(tmp_path, state_file=str(file))
    )
    check(stand)
    said_nothing(stand)
    assert str(WebFiles.beside(file).hosts_map) in stand.client.ask("show map")


def test_ports_are_served_beside_listeners(make_stand: MakeStand, make_server: MakeServer) -> None:
    stand = make_stand(listeners=both_listeners())
    server = make_server()
    stand.write("app.yaml", *app(port=30000, endpoints=[server]))
    with running(stand.daemon()) as daemon:
        await_leads_to(stand, 30000, server)
        converged(daemon)


# -- the user's own template -------------------------------------------------------------------


def with_template(file: Path) -> Settings:
    return parse_settings(yaml.safe_dump({"haproxy": {"template": str(file)}}), {}, "test")


def test_ours_as_the_users_own(make_stand: MakeStand, tmp_path: Path) -> None:
    file = tmp_path / "own.cfg.j2"
    ours = template_path().read_text()
    file.write_text(ours.replace("    mode tcp\n", "    mode tcp\n    timeout tunnel 9h\n", 1))
    stand = make_stand(haproxy=haproxy_files(tmp_path, template=str(file)))
    check(stand)
    has_its_pool(stand)
    assert "timeout tunnel 9h" in stand.settings.haproxy.config.read_text()


def test_a_template_has_what_the_documentation_says(tmp_path: Path) -> None:
    file = tmp_path / "own.j2"
    file.write_text(
        "{{ socket }} {{ state_file }} {{ maxconn }} {{ metrics_listen }}\n"
        "{% for pool in pools %}{{ pool.name }} {{ pool.ports | ports }} {{ pool.slots }}"
        " {{ pool | server_options }} {{ pool.maxconn }} of {{ capacity.ports_maxconn }}\n"
        "{% endfor %}"
        "{{ 6620 | frontend }} {{ 6620 | backend }} {{ 1.5 | duration }} {{ '::1' | bind_ip }}"
        " {{ '[::1]:80' | bind_address }} {{ 'a b' | quote }}\n"
        "{{ web.listeners[0].name | listener }} {{ web.listeners[0].bind[0] | bind_address }}"
        " {{ (web.classes[0] | web_backends)[1] }} {{ web.classes[0] | server_options }}"
        " {{ files.hosts_map.name }} {{ files.sni_map.name }} {{ files.unavailable_page.name }}\n"
    )
    listeners = (ListenerSettings.model_validate({**listener("http", "[::1]:80"), "name": "l"}),)
    given = with_template(file).model_copy(update={"listeners": listeners})
    first, second, third, fourth = render(given).splitlines()
    assert first.endswith(" 20000 None")
    assert second.startswith("default 6620, 13306, 18080, 30000-30099 6 init-addr last,127.0.0.1")
    assert second.endswith(" 2000 of 19968")
    assert fourth == (
        "web-l [::1]:80 be_http_2 init-addr last,127.0.0.1 weight 256 hosts.map sni.map 503.http"
    )
    assert third == 'tcp-6620 be_tcp-6620 1500ms [::1] [::1]:80 "a b"'


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("global\n{% for port in pools %}\n", 2, "endfor"),
        ("global\n{{ pools\n", 2, "end of print statement"),
        ("global\n\n{% nonsense %}\n", 3, "nonsense"),
        ("{{ 1 | nonsense }}\n", 1, "nonsense"),
        ("global\n{{ nonsense }}\n", 2, "'nonsense' is undefined"),
        ("{% for pool in pools %}\n\n{{ pool.nonsense }}{% endfor %}", 3, "nonsense"),
        ("{% macro a() %}\n{{ nonsense }}\n{% endmacro %}\n{{ a() }}\n", 2, "nonsense"),
        ("global\n{{ 1 // 0 }}\n", 2, "ZeroDivisionError"),
        ("global\n{{ socket + 1 }}\n", 2, "TypeError"),
        ("global\n{{ 'nowhere' | bind_address }}\n", 2, "write host:port"),
        ("global\n{{ 'x' | duration }}\n", 2, "TypeError"),
        ("global\n{% include 'other.j2' %}\n", 2, "no loader"),
    ],
)
def test_a_broken_template_is_named_with_its_line(
    tmp_path: Path, text: str, line: int, problem: str
) -> None:
    file = tmp_path / "own.j2"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"haproxy\.template") as caught:
        render(with_template(file))
    (said,) = caught.value.problems
    assert said.startswith(f"{file} line {line}: ")
    assert problem in said
    assert "omit the key to use the built-in template" in said


def test_a_template_that_cannot_be_read(tmp_path: Path) -> None:
    cases = {"absent.j2": "No such file", "folder.j2": "Is a directory", "binary.j2": "not UTF-8"}
    (tmp_path / "folder.j2").mkdir()
    (tmp_path / "binary.j2").write_bytes(b"\xff\xfe\x00")
    for name, problem in cases.items():
        with pytest.raises(SettingsError, match=f"{name}: cannot be read: {problem}"):
            render(with_template(tmp_path / name))


# -- the installed package ---------------------------------------------------------------------


def test_the_wheel_renders_without_the_source_tree(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--wheel-dir", str(tmp_path), str(root)),
        ],
        check=True,
        cwd=tmp_path,
        timeout=110,
    )
    (wheel,) = tmp_path.glob("haproxy_sidecar-*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        file.extractall(installed)
    assert "sidecar/haproxy.cfg.j2" in names
    assert "sidecar/503.http" in names
    assert "sidecar/cli/app/__init__.py" in names
    assert not [name for name in names if name.startswith(("tests/", "haproxy/", "bench/"))]
    code = (
        "import sidecar.haproxy.config as t; from sidecar.cli.render import haproxy_cfg;"
        "from sidecar.settings.parsing import parse_settings;"
        "print(t.template_path()); print(haproxy_cfg(parse_settings('', {}, 'test')), end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(installed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    where, _, text = done.stdout.partition("\n")
    assert Path(where) == installed / "sidecar" / "haproxy.cfg.j2"
    assert "frontend tcp-30099" in text
