"""Settings of somebody who means harm, or mistypes badly: refused with the key, or a haproxy.cfg
that has the lines it should have and that HAProxy takes."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from stand import HAPROXY

from sidecar.cli.render import haproxy_cfg as render
from sidecar.common.errors import SettingsError
from sidecar.haproxy.web_files import WebFiles
from sidecar.settings.parsing import parse_settings

INJECTED = "\n    user root\n"


def made(data: dict[str, Any]) -> str:
    """haproxy.cfg from these settings. Raises SettingsError."""
    return render(parse_settings(yaml.safe_dump(data, allow_unicode=True), {}, "sidecar.yaml"))


def pool(**changes: object) -> dict[str, Any]:
    return {"pools": [{"ports": ["30000"], "slots": 1, **changes}]}


def haproxy(**changes: object) -> dict[str, Any]:
    return {"haproxy": changes, **pool()}


def checks(**changes: object) -> dict[str, Any]:
    return pool(check={"enabled": True, **changes})


#: What HAProxy takes.
TAKEN: dict[str, dict[str, Any]] = {
    "the longest timeouts": pool(timeouts=dict.fromkeys(("connect", "client", "server"), "24d")),
    "the longest of all": pool(timeouts={"client": "2147483647ms"}),
    "the shortest timeouts": pool(timeouts=dict.fromkeys(("connect", "client", "server"), "1ms")),
    "the largest counts": checks(interval="24d", rise=1000, fall=1000),
    "the largest limit": haproxy(maxconn=10**9),
    "most slots": pool(slots=4096),
    "each second port": pool(ports=[str(port) for port in range(20001, 60000, 2)]),
    "every port by itself": {
        "http": {"listen": None},
        **pool(ports=[*range(1, 65536)], slots=1),
    },
    "a long name": pool(name="x" * 63),
    "IPv4 in IPv6": pool(bind=["::ffff:127.0.0.1"]),
    "all addresses and one": pool(bind=["0.0.0.0", "127.0.0.1", "::", "::1"]),
    "a tab and quotes": haproxy(state_file="/tmp/a\tb\"c'd\\e"),
    "variables": haproxy(state_file="/tmp/$HOME${HOME}"),
    "a comment": haproxy(socket="/tmp/a #b"),
    "a long path": haproxy(state_file="/tmp/" + "x/" * 1900),
    "what HAProxy would call a descriptor": haproxy(socket="fd@3"),
    "what HAProxy would call abstract": haproxy(socket="abns@a/b"),
    "a name of the machine": haproxy(socket="localhost:31998"),
    "metrics on IPv6": haproxy(metrics_listen="[::1]:31997"),
}

#: What is refused, since HAProxy would not start, or do something else: (settings, the key).
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a line in the socket": (haproxy(socket=f"/tmp/a{INJECTED}"), "haproxy.socket"),
    "a line in the state file": (haproxy(state_file=f"/tmp/a{INJECTED}"), "haproxy.state_file"),
    "NUL in the state file": (haproxy(state_file="/tmp/a\0b"), "haproxy.state_file"),
    "NUL in haproxy.cfg's name": (haproxy(config="/tmp/a\0b"), "haproxy.config"),
    "a line in a scope id": (pool(bind=[f"fe80::1%lo{INJECTED}"]), "pools[0].bind[0]"),
    "a space in a scope id": (pool(bind=["fe80::1%lo user root"]), "pools[0].bind[0]"),
    "a scope id": (pool(bind=["fe80::1%lo"]), "pools[0].bind[0]"),
    "a scope id for metrics": (
        haproxy(metrics_listen="[fe80::1%lo]:31997"),
        "haproxy.metrics_listen",
    ),
    "a scope id for the socket": (haproxy(socket="[fe80::1%lo]:31997"), "haproxy.socket"),
    "a name that leads nowhere": (
        haproxy(metrics_listen="nowhere.invalid:31997"),
        "haproxy.metrics_listen",
    ),
    "dots": (haproxy(socket="...:31997"), "haproxy.socket"),
    "port 0": (haproxy(metrics_listen="0.0.0.0:0"), "haproxy.metrics_listen"),
    "a long host": (haproxy(socket=f"{'x' * 300}:31997"), "haproxy.socket"),
    "a timeout too long": (pool(timeouts={"client": "2147483648ms"}), "pools[0].timeouts.client"),
    "a timeout of 0": (pool(timeouts={"connect": "0.4ms"}), "pools[0].timeouts.connect"),
    "a huge timeout": (pool(timeouts={"server": "1000000000000s"}), "pools[0].timeouts.server"),
    "a rise that overflows": (checks(rise=10**12), "pools[0].check.rise"),
    "a fall that overflows": (checks(fall=2**31 - 1), "pools[0].check.fall"),
    "a limit that overflows": (haproxy(maxconn=2**31), "haproxy.maxconn"),
    "a line in a pool's name": (pool(name=f"a{INJECTED}"), "pools[0].name"),
    "an address twice": (pool(bind=["127.0.0.1", "::ffff:127.0.0.1"]), "pools[0].bind"),
    "a multicast address": (pool(bind=["ff02::1"]), "pools[0].bind[0]"),
    "a path too long": (haproxy(state_file="/tmp/" + "x/" * 3000), "haproxy.state_file"),
    "a file's name too long": (haproxy(state_file="/tmp/" + "x" * 256), "haproxy.state_file"),
    "metrics on a pool's port": (
        haproxy(metrics_listen="127.0.0.1:30000"),
        "haproxy.metrics_listen",
    ),
    "metrics and page on one": (
        {"http": {"listen": "0.0.0.0:31997"}, **haproxy(metrics_listen="127.0.0.1:31997")},
        "haproxy.metrics_listen",
    ),
    "slots for all the memory": (pool(ports="20000-60000", slots=4096), "pools"),
}


@pytest.mark.parametrize("data", TAKEN.values(), ids=TAKEN)
def test_what_passes_is_taken_by_haproxy(data: dict[str, Any], tmp_path: Path) -> None:
    file, empty = tmp_path / "haproxy.cfg", tmp_path / "empty.map"
    empty.touch()
    text, settings = made(data), parse_settings(yaml.safe_dump(data), {}, "sidecar.yaml")
    # It does not start without its maps, which `render` writes where the settings say.
    for path in WebFiles.beside(settings.haproxy.state_file).port_maps:
        text = text.replace(str(path), str(empty))
    file.write_text(text)
    done = subprocess.run(
        [HAPROXY, "-c", "-f", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "[ALERT]" not in done.stderr


@pytest.mark.parametrize(("data", "key"), REFUSED.values(), ids=REFUSED)
def test_what_haproxy_would_not_take_is_refused(data: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        made(data)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{key}: ")
    assert problem.isprintable()
    assert len(problem) < 400


# -- whatever passes, no line is injected ---------------------------------------------------------

#: Text that means something to HAProxy, YAML, jinja2 or a file system.
_PIECES = st.sampled_from(
    [
        *("\n", "\r", "\0", "\t", "\x0b", "\x85", "\u2028", "\x1b", " ", "'", '"', "\\", "#", "$"),
        *("${HOME}", "%", "%lo", ",", "/", "{{ 1 }}", "{%", "@", "[", "]", ":", "::1", "fe80::"),
        *("127.0.0.1", ":80", "user root", INJECTED, "run", "a", "\xe4", ".", "..", "-", "_"),
    ]
)
TEXT = st.lists(_PIECES, max_size=6).map("".join) | st.text(max_size=8)
BINDS = st.lists(
    st.sampled_from(["127.0.0.1", "::1", "0.0.0.0"]) | TEXT.map("fe80::1%{}".format) | TEXT,
    min_size=1,
    max_size=3,
)


def words(text: str) -> list[str]:
    """The beginning of each line, as HAProxy tells lines apart: what it is about."""
    return [re.split(r'["\[(0-9:]|default', line)[0] for line in re.split(r"[\n\r\0]", text)]


@hypothesis_settings(deadline=None, max_examples=300)
@given(
    socket=TEXT | st.just("run/a.sock"),
    state_file=TEXT | st.just("run/state"),
    metrics=st.none() | TEXT | TEXT.map("[::1%{}]:80".format) | st.just("127.0.0.1:80"),
    name=TEXT | st.just("default"),
    binds=BINDS | st.just(["::1"]),
)
@example("a\n", "b", None, "default", ["::1"])
@example("a", "b", "[::1%\n]:80", "default", ["::1"])
@example("a", "b", None, "default", ["::1%\n"])
@example("a", 'b"\n    user root # "', None, "default", ["::1"])
def test_no_line_is_injected(
    socket: str, state_file: str, metrics: str | None, name: str, binds: list[str]
) -> None:
    def settings(
        socket: str, state_file: str, metrics: str | None, name: str, binds: list[str]
    ) -> dict[str, Any]:
        found = haproxy(socket=socket, state_file=state_file, metrics_listen=metrics)
        return found | pool(name=name, bind=binds)

    try:
        text = made(settings(socket, state_file, metrics, name, binds))
    except SettingsError:
        return
    is_tcp = re.search(r"^    stats socket [^\"]", text, re.MULTILINE)
    # Where HAProxy could not find maps there are none.
    harmless = settings(
        "127.0.0.1:1" if is_tcp else "run/a.sock",
        "run/state" if "map_str(" in text else "run,/state",
        metrics and "127.0.0.1:80",
        "default",
        [f"127.0.0.{number}" for number in range(1, len(binds) + 1)],
    )
    found, expected = words(text), words(made(harmless))
    pool_line = next(number for number, line in enumerate(expected) if line == "# Pool ")
    assert text.splitlines()[pool_line].startswith(f"# Pool {name}: 30000; ")
    del found[pool_line], expected[pool_line]
    assert found == expected
