"""Commands that ask the running sidecar: where they find it, and what they say if they do not."""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from book import to_type
from cli import run_cli, run_lines, spawn_cli
from stand import MakeServer, MakeStand, Stand, app, converged, free_port, running

from sidecar.cli import is_run


@pytest.fixture
def stand(make_stand: MakeStand, make_server: MakeServer) -> Iterator[Stand]:
    """One whose sidecar runs and has a Route."""
    found = make_stand()
    found.write("web.yaml", *app("web", 30000, [make_server("a")]))
    with running(found.daemon()) as daemon:
        converged(daemon)
        yield found


def pass_on(client: socket.socket, server: socket.socket) -> None:
    """Until one of them ends."""
    other = {client: server, server: client}
    while True:
        for one in select.select(list(other), [], [], 10)[0]:
            data = one.recv(65536)
            if not data:
                return
            other[one].sendall(data)


@contextlib.contextmanager
def forwarded(stand: Stand) -> Iterator[str]:
    """The URL of a forwarded port, as by kubectl port-forward: of another number than the pod's."""
    host, port = stand.settings.http.listen.rsplit(":", 1)  # type: ignore[union-attr]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client, socket.create_connection((host, int(port)), 5) as server:
                        pass_on(client, server)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            # Else accept() goes on, in its thread.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def test_at_a_url_from_any_folder(stand: Stand, tmp_path: Path) -> None:
    with forwarded(stand) as url:
        shown = spawn_cli("status", "--url", url, cwd=tmp_path)
        assert (shown.code, shown.err) == (0, "")
        assert "converged" in shown.out
        assert "demo/web" in shown.out
        assert spawn_cli("--url", url, "why", "demo/web", cwd=tmp_path).code == 0
        named = spawn_cli("history", "demo/web", cwd=tmp_path, SIDECAR_URL=f"{url}/")
        assert "set server be_tcp-30000/s1 state ready" in named.out
        line = to_type("docs/reference.md", "haproxy-sidecar --url http://127.0.0.1:8405 ").text
        guide = run_lines(line.replace("http://127.0.0.1:8405", url), tmp_path)
        assert (guide.code, guide.err) == (0, "")
        assert "demo/web" in guide.out
        # It need not be the router of these settings.
        stand.settings_file.write_text("router_name: other\n")
        other = run_cli("status", "-c", stand.settings_file, "--url", url, "--json")
        assert json.loads(other.out)["router_name"] == "wzh-router-1"


def test_nobody_else_is_asked_where_a_url_is_given(stand: Stand) -> None:
    url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    for arguments in (["status"], ["status", "--json"], ["why", "30000"], ["history"]):
        done = run_cli(*arguments, "-c", stand.settings_file, "--url", url)
        assert (done.code, done.out) == (3, ""), done
        assert done.err == f"haproxy-sidecar: nothing answers at {url}: Connection refused\n"


def test_what_answers_may_be_something_else() -> None:
    for sent, told in (
        (b"", "nothing answers at {url}: "),
        (b"+OK POP3 ready\r\n", "the server at {url} is not a sidecar"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", "the server at {url} is not a sidecar"),
        (b"HTTP/1.0 200 OK\r\n\r\n{}", "the sidecar at {url} is of another version"),
        (b"HTTP/1.0 200 OK\r\n\r\n[1]", "the sidecar at {url} is of another version"),
        (b"HTTP/1.0 404 Not Found\r\n\r\ngone\x1b[2J", "{url} answered 404: gone?[2J"),
    ):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve(listener: socket.socket = listener, sent: bytes = sent) -> None:
                client, _ = listener.accept()
                with client:
                    client.recv(65536)
                    client.sendall(sent)

            thread = threading.Thread(target=serve)
            thread.start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            done = run_cli("status", "--url", url)
            thread.join(5)
        assert (done.code, done.out) == (3, ""), done
        assert done.err.startswith(f"haproxy-sidecar: {told.format(url=url)}"), done.err
        assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "url",
    [
        "8405",
        "127.0.0.1:8405",
        "ftp://a.example",
        "http://",
        "http://a b",
        "http://a:x",
        "http://a?b",
    ],
)
def test_what_is_no_url(url: str) -> None:
    done = run_cli("status", "--url", url)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"haproxy-sidecar: --url: {url!r}: write http://HOST:PORT, like http://127.0.0.1:8405\n"
    )


def test_only_of_commands_that_ask() -> None:
    done = run_cli("--url", "http://127.0.0.1:8405", "plan")
    assert done.code == 2
    assert (
        "`plan` does not ask the running sidecar; these do: status, top, why, history" in done.err
    )
    probed = run_cli("why", "30000", "--probe", "--url", "http://127.0.0.1:8405")
    assert probed.code == 2
    assert "run it there, or leave out --url" in probed.err


def test_no_proxy_of_the_environment_is_asked(stand: Stand) -> None:
    with forwarded(stand) as url:
        nowhere = f"http://127.0.0.1:{free_port('127.0.0.1')}"
        proxies = {"http_proxy": nowhere, "HTTP_PROXY": nowhere, "all_proxy": nowhere}
        assert run_cli("status", "--url", url, **proxies).code == 0


def test_the_token_may_be_elsewhere(make_stand: MakeStand) -> None:
    stand = make_stand()
    token, copy = stand.folder / "token", stand.folder / "copy"
    data = {**stand.settings_data["http"], "token_file": str(token)}
    section = stand.settings.http.model_validate(data)
    stand.settings = stand.settings.model_copy(update={"http": section})
    stand.settings_file.write_text(json.dumps({**stand.settings_data, "http": data}))
    token.write_text("geheim € \n")
    with running(stand.daemon()) as daemon, forwarded(stand) as url:
        converged(daemon)
        denied = run_cli("status", "--url", url)
        assert (denied.code, denied.out) == (3, "")
        assert "answered 401: send the token" in denied.err
        assert "set SIDECAR_TOKEN_FILE to a file that has it" in denied.err
        assert run_cli("status", "--url", url, SIDECAR_TOKEN_FILE=str(copy)).err == (
            f"haproxy-sidecar: the file of the token, {copy}, cannot be read:"
            " No such file or directory\n"
        )
        copy.write_text("\n")
        assert "is empty" in run_cli("status", "--url", url, SIDECAR_TOKEN_FILE=str(copy)).err
        copy.write_text("wrong")
        wrong = run_cli("history", "--url", url, SIDECAR_TOKEN_FILE=str(copy))
        assert (wrong.code, "answered 401" in wrong.err) == (3, True)
        assert "wrong" not in wrong.err
        os.replace(token, copy)  # noqa: PTH105
        token.write_text("geheim €")
        assert run_cli("status", "--url", url, SIDECAR_TOKEN_FILE=str(copy)).code == 0
        # Or where the settings say, with --url and without.
        assert run_cli("status", "--url", url, "-c", stand.settings_file).code == 0
        assert "no running" not in run_cli("status", "-c", stand.settings_file).out
        token.write_text("another")
        given = run_cli("status", "-c", stand.settings_file, SIDECAR_TOKEN_FILE=str(token))
        assert "no running" not in given.out


def test_settings_before_the_command(stand: Stand) -> None:
    ours, nowhere = str(stand.settings_file), "/nonexistent.yaml"
    assert run_cli("-c", ours, "history").code == 0
    assert run_cli("-c", ours, "history", SIDECAR_CONFIG=nowhere).code == 0
    assert run_cli("-c", nowhere, "history", "-c", ours).code == 0
    assert run_cli("-c", ours, "history", "-c", nowhere).code == 2
    assert run_cli("-c", nowhere, "import", "egress", "-", "-c", ours).code != 0


@pytest.mark.parametrize(
    ("arguments", "is_it"),
    [
        ("run", True),
        ("-c run run", True),
        ("--config=x run -c y", True),
        ("-cx run", True),
        ("--config x run --help", True),
        ("-c run status", False),
        ("status run", False),
        ("--help", False),
        ("-c", False),
        ("", False),
    ],
)
def test_which_command_it_is(arguments: str, is_it: bool) -> None:
    assert is_run(arguments.split()) is is_it


def test_asking_loads_nothing_heavy(stand: Stand) -> None:
    """Where the sidecar answers, the time that a command takes is that of its imports."""
    heavy = (
        *("pydantic", "cryptography", "jinja2", "requests", "urllib3", "kubernetes", "asyncio"),
        *("prometheus_client", "prompt_toolkit", "rich.live", "rich._emoji_codes"),
    )
    for arguments in (["status"], ["why", "30000"], ["history"]):
        argv = ["haproxy-sidecar", *arguments, "-c", str(stand.settings_file)]
        code = (
            f"import sys; from sidecar.cli import main; sys.argv = {argv!r}\n"
            "try: main()\n"
            "except SystemExit as exc: assert not exc.code, exc.code\n"
            f"print([name for name in {heavy!r} if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert "tcp-30000" in done.stdout or "demo/web" in done.stdout
        assert done.stdout.splitlines()[-1] == "[]", arguments


def test_mistakes_in_settings_are_told_before_anybody_is_asked(stand: Stand) -> None:
    data = yaml.safe_load(stand.settings_file.read_text())
    mistakes: list[dict[str, object]] = [
        {"htpp": {}},
        {"http": {**data["http"], "lisen": 1}},
        {"router_name": ""},
    ]
    for broken in mistakes:
        stand.settings_file.write_text(json.dumps({**data, **broken}))
        assert run_cli("status", "-c", stand.settings_file).code == 2, broken
