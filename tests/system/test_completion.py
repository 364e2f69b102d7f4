"""Shell completion, asked for as the shells do: by environment variables."""

import contextlib
import os
import pty
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from by_host import WebStand, host_app
from cli import ROOT, clean_environment, command, spawn_cli
from stand import MakeServer, MakeStand, Stand, app, await_, converged, running


@pytest.fixture
def stand(make_stand: MakeStand, make_server: MakeServer) -> Iterator[Stand]:
    """One whose sidecar runs."""
    found = WebStand.make(make_stand).stand
    pod = {"addresses": ["10.1.1.1"], "targetRef": {"kind": "Pod", "name": "web-7f9"}}
    found.write("web.yaml", *app("web", 30000, [pod]), *app("api", 30001, ["10.1.1.2"]))
    found.write("shop.yaml", *host_app("shop", "shop.test", [make_server("s")], namespace="lab"))
    with running(found.daemon()) as daemon:
        converged(daemon)
        yield found


def completed(line: str, shell: str = "bash") -> list[str]:
    """What the shell gets at the end of ``line``."""
    asked = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    # bash asks as fish does, and leaves out what is said of a value.
    asked["_HAPROXY_SIDECAR_COMPLETE"] = f"complete_{shell.replace('bash', 'fish')}"
    done = spawn_cli(cwd=ROOT, **asked)
    assert (done.code, done.err) == (0, "")
    found = [line for line in done.out.splitlines() if line]
    return [line.partition("\t")[0] for line in found] if shell == "bash" else found


def test_commands_and_options() -> None:
    assert completed("haproxy-sidecar st") == ["status"]
    assert {"status", "why", "completion"} <= set(completed("haproxy-sidecar "))
    assert completed("haproxy-sidecar import t") == ["tcp-services"]
    assert completed("haproxy-sidecar to") == ["top"]
    assert {"--url", "--config"} <= set(completed("haproxy-sidecar top --"))
    assert completed("haproxy-sidecar status --w") == ["--watch"]
    assert completed("haproxy-sidecar completion ") == ["bash", "zsh", "fish"]


def test_what_the_sidecar_knows(stand: Stand) -> None:
    ours = f"haproxy-sidecar -c {stand.settings_file}"
    assert completed(f"{ours} why 3000") == ["30000", "30001"]
    assert completed(f"{ours} why ") == [
        "30000",
        "30001",
        "demo/web",
        "demo/api",
        "lab/shop",
        "shop.test",
    ]
    assert completed(f"{ours} status 30000 d") == ["demo/web", "demo/api"]
    assert completed(f"{ours} history sh") == ["shop.test"]
    assert completed(f"{ours} kick ") == ["30000", "30001", "demo/web", "demo/api"]
    assert completed(f"{ours} kick demo/web --server ") == ["web-7f9"]
    assert completed(f"{ours} status -n ") == ["demo", "lab"]
    assert completed(f"haproxy-sidecar hold -c {stand.settings_file} 3") == ["30000", "30001"]
    assert completed(f"{ours} release ") == []
    assert completed(f"{ours} why demo/w", "fish") == ["demo/web\tport 30000"]
    zsh = "\n".join(completed(f"{ours} why demo/w", "zsh"))
    assert zsh == """_arguments '*: :(("demo/web":"port 30000"))'"""


@contextlib.contextmanager
def bash(stand: Stand) -> Iterator[Callable[[str], str]]:
    """What an interactive bash with the script makes of a line and a Tab, on a terminal."""
    bin_folder = stand.folder / "bin"
    bin_folder.mkdir()
    ours = bin_folder / "haproxy-sidecar"
    ours.write_text(f'#!/bin/sh\nexec {" ".join(command())} "$@"\n')
    ours.chmod(0o755)
    terminal, inside = pty.openpty()
    with subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        cwd=stand.folder,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        env={
            **clean_environment(),
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "TERM": "dumb",
            "COLUMNS": "1000",
            "INPUTRC": "/dev/null",
            "HISTFILE": "",
            "PS1": "",
        },
    ) as shell:
        os.close(inside)

        def typed(line: str) -> str:
            # Ctrl-A: to the begin of the line. In a file, since a terminal shows much else.
            ended = f"{line}\x01printf '%s\\n' >words \rmv words answer\r"
            os.write(terminal, ended.encode())
            await_(answer.exists, line)
            words = answer.read_text().splitlines()
            answer.unlink()
            return " ".join(words)

        answer = stand.folder / "answer"
        os.write(terminal, b"source <(haproxy-sidecar completion bash)\r")
        try:
            yield typed
        finally:
            shell.kill()
            os.close(terminal)


def test_bash_completes(stand: Stand) -> None:
    """The script itself, in a bash that somebody types into."""
    file, listen = stand.settings_file, stand.settings.http.listen
    with bash(stand) as typed:
        # The last ones bash takes apart, at each colon and equals sign.
        for where in (f"-c {file}", f"--config={file}", f"--url http://{listen}"):
            ours = f"haproxy-sidecar {where}"
            assert typed(f"{ours} why demo/w\t") == f"{ours} why demo/web"
            assert typed(f"{ours} status --namespace=l\t") == f"{ours} status --namespace=lab"
        assert typed(f"haproxy-sidecar -c '{file}' why sh\t").endswith(" why shop.test")
        # Two words back, and one character on: a word in the middle.
        assert typed(f"{ours} why demo/w --json\x1bb\x1bb\x06\t") == f"{ours} why demo/web --json"


def test_nothing_is_offered_or_said_where_nobody_answers_in_time(tmp_path: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        listen = f"127.0.0.1:{silent.getsockname()[1]}"
        settings = tmp_path / "sidecar.yaml"
        settings.write_text(yaml.safe_dump({"http": {"listen": listen}}))
        began = time.monotonic()
        assert completed(f"haproxy-sidecar -c {settings} why ") == []
        assert completed(f"haproxy-sidecar --url http://{listen} why ") == []
        assert time.monotonic() - began < 10
    assert completed(f"haproxy-sidecar -c {settings} why ") == []
    assert completed(f"haproxy-sidecar -c {tmp_path}/none.yaml why ") == []


def test_of_a_shell_that_is_not_known() -> None:
    done = spawn_cli("completion", "tcsh")
    assert (done.code, done.out) == (2, "")
    assert done.err == "haproxy-sidecar: no completion for 'tcsh'; shells: bash, zsh, fish\n"
