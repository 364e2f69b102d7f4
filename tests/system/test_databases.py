"""Real databases behind their ports, driven by their real clients.

MariaDB on 13306 and Redis on 6620, as in `examples/`; each has two servers with other data, so that
one can see which of them answered.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from stand import Stand, app, await_, fresh_ip, running

from sidecar.model.pool import Address

MYSQL_PORT, REDIS_PORT = 13306, 6620
_PASSWORD = "sw0rdfish"

#: Small, and it may lose data when the machine fails: it is a test's.
_MARIADB_OPTIONS = (
    "--innodb-buffer-pool-size=8M",
    "--innodb-log-file-size=4M",
    "--innodb-doublewrite=0",
    "--innodb-flush-method=nosync",
    "--aria-log-file-size=8M",
    "--aria-pagecache-buffer-size=2M",
    "--key-buffer-size=1M",
)


def program(name: str) -> str:
    """Its path. Fails the test where there is none: a skipped test would prove nothing."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin:/usr/sbin:/sbin"])
    found = shutil.which(name, path=path)
    if not found:
        pytest.fail(f"there is no {name} here; run: haproxy/install mariadb redis", pytrace=False)
    return found


def run(command: Sequence[str], seconds: float = 30) -> str:
    """What ``command`` printed; fails the test with its complaint if it did not work."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


class Server:
    """A database server's process, on the loopback, with its files in a folder of its own."""

    def __init__(self, command: Sequence[str], folder: Path, address: Address) -> None:
        self.address = address
        self._log = folder / "log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
            )

    def await_answer(self, question: Sequence[str]) -> None:
        """Until ``question`` succeeds."""
        complaint = ""

        def answers() -> bool:
            nonlocal complaint
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            done = subprocess.run(question, capture_output=True, timeout=10, check=False, text=True)
            complaint = done.stderr
            return done.returncode == 0

        try:
            await_(answers, f"an answer of {self.address}", 30)
        except AssertionError as exc:
            exc.add_note(f"{complaint}\n{self._log.read_text()[-2000:]}")
            raise

    def stop(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)


@pytest.fixture
def files() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def mariadb_client(address: Address, sql: str) -> list[str]:
    host, port = address.ip, str(address.port)
    return [
        program("mariadb"),
        *("--no-defaults", "--protocol=tcp", f"--host={host}", f"--port={port}"),
        *("--user=app", f"--password={_PASSWORD}", "--database=shop"),
        *("--batch", "--skip-column-names", f"--execute={sql}"),
    ]


def start_mariadbs(folder: Path, files: contextlib.ExitStack, count: int) -> list[Server]:
    """Servers on addresses of their own, all with the same port, each with an empty ``shop``."""
    as_user = ["--user=root"] if os.geteuid() == 0 else []
    first = folder / "data-0"
    scratch = folder / "tmp"  # two of them in one would take each other's tables for their own
    scratch.mkdir()
    run(
        [
            program("mariadb-install-db"),
            *("--no-defaults", *as_user, f"--datadir={first}", f"--tmpdir={scratch}"),
            *("--skip-test-db",),
            *("--auth-root-authentication-method=normal", *_MARIADB_OPTIONS),
        ]
    )
    accounts = folder / "accounts.sql"
    accounts.write_text(
        "create database shop;\n"
        f"create user app@'%' identified by '{_PASSWORD}';\n"
        "grant all on shop.* to app@'%';\n"
    )
    for number in range(1, count):
        shutil.copytree(first, folder / f"data-{number}")
    servers = []
    for number in range(count):
        data = folder / f"data-{number}"
        address = Address(fresh_ip(), 23306)
        command = [
            program("mariadbd"),
            *("--no-defaults", *as_user, f"--datadir={data}", f"--socket={data}/sock"),
            *(f"--bind-address={address.ip}", f"--port={address.port}", "--skip-name-resolve"),
            *(f"--server-id={number + 1}", f"--init-file={accounts}", *_MARIADB_OPTIONS),
        ]
        servers.append(Server(command, data, address))
        files.callback(servers[-1].stop)
    for server in servers:
        server.await_answer(mariadb_client(server.address, "select 1"))
    return servers


def test_mariadb(
    make_stand: Callable[..., Stand], files: contextlib.ExitStack, tmp_path: Path
) -> None:
    first, second = start_mariadbs(tmp_path, files, 2)
    stand = make_stand(pools=[{"ports": [str(MYSQL_PORT)]}])
    port = Address(stand.ip, MYSQL_PORT)
    serve(stand, "mysql", MYSQL_PORT, first)
    files.enter_context(running(stand.daemon()))
    await_(lambda: stand.ready(MYSQL_PORT) == [first.address], "the first is served")

    def ask(sql: str) -> str:
        return run(mariadb_client(port, sql))

    ask(
        "create table orders (id int primary key, what varchar(40));"
        " insert into orders values (1, 'tea'), (2, 'milk')"
    )
    assert ask("select group_concat(what order by id) from orders") == "tea,milk"
    assert ask("select @@server_id") == "1"
    megabyte = "select length(repeat('x', 1000000)), md5(repeat('x', 1000000))"
    assert ask(megabyte).startswith("1000000")

    # A long transaction on the first goes on while new sessions get to the second.
    session = subprocess.Popen(
        [*mariadb_client(port, "")[:-1], "--unbuffered"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    files.enter_context(session)
    files.callback(session.kill)
    assert session.stdin
    assert session.stdout

    def say(sql: str) -> str:
        assert session.stdin
        assert session.stdout
        session.stdin.write(f"{sql};\n")
        session.stdin.flush()
        return session.stdout.readline().strip()

    assert say("begin; insert into orders values (3, 'bread'); select count(*) from orders") == "3"
    serve(stand, "mysql", MYSQL_PORT, second)
    await_(lambda: stand.ready(MYSQL_PORT) == [second.address], "the second has taken over")
    assert ask("select @@server_id") == "2"
    assert ask("show tables") == "", "the second has no tables yet"
    assert say("commit; select @@server_id") == "1"
    session.stdin.close()
    assert session.wait(10) == 0

    serve(stand, "mysql", MYSQL_PORT, first)
    await_(lambda: stand.ready(MYSQL_PORT) == [first.address], "the first is back")
    assert ask("select group_concat(what order by id) from orders") == "tea,milk,bread"


def redis_client(address: Address, *command: str) -> list[str]:
    return [program("redis-cli"), "-h", address.ip, "-p", str(address.port), *command]


def test_redis(
    make_stand: Callable[..., Stand], files: contextlib.ExitStack, tmp_path: Path
) -> None:
    servers = []
    for number in range(2):
        folder = tmp_path / f"redis-{number}"
        folder.mkdir()
        address = Address(fresh_ip(), 26379)
        options = {"bind": address.ip, "port": str(address.port), "save": "", "appendonly": "no"}
        words = [word for key, value in options.items() for word in (f"--{key}", value)]
        servers.append(Server([program("redis-server"), *words], folder, address))
        files.callback(servers[-1].stop)
    for number, server in enumerate(servers):
        server.await_answer(redis_client(server.address, "set", "who", f"redis-{number}"))
    first, second = servers
    stand = make_stand(pools=[{"ports": [str(REDIS_PORT)]}])
    port = Address(stand.ip, REDIS_PORT)
    serve(stand, "ottcache-002", REDIS_PORT, first)
    files.enter_context(running(stand.daemon()))
    await_(lambda: stand.ready(REDIS_PORT) == [first.address], "the first is served")

    def ask(*command: str) -> str:
        return run(redis_client(port, *command))

    assert ask("set", "cup", "tea") == "OK"
    assert ask("get", "cup") == "tea"
    assert ask("get", "who") == "redis-0"
    bulk = "".join(f"set key-{number} value-{number}\n" for number in range(20_000))
    done = subprocess.run(
        redis_client(port, "--pipe"), input=bulk, capture_output=True, text=True, check=False
    )
    assert "errors: 0, replies: 20000" in done.stdout
    assert ask("dbsize") == "20002"

    with subprocess.Popen(
        redis_client(port), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as session:

        def say(command: str) -> str:
            assert session.stdin
            assert session.stdout
            session.stdin.write(command + "\n")
            session.stdin.flush()
            return session.stdout.readline().strip()

        assert say("get who") == "redis-0"
        serve(stand, "ottcache-002", REDIS_PORT, second)
        await_(lambda: stand.ready(REDIS_PORT) == [second.address], "the second has taken over")
        assert ask("get", "who") == "redis-1"
        assert ask("get", "cup") == ""
        # The long session is still on the first.
        assert say("incr visits") == "1"
        assert say("get who") == "redis-0"
        stand.remove("ottcache-002.yaml")
        await_(lambda: stand.is_refused(REDIS_PORT), "the port is closed")
        assert say("get cup") == "tea"
    assert session.returncode == 0


def serve(stand: Stand, name: str, port: int, server: Server) -> None:
    """Publish ``server`` on ``port``: the manifest as a person edits it."""
    objects = app(name, port, [server.address.ip])
    objects[2]["ports"][0]["port"] = server.address.port
    stand.write(f"{name}.yaml", *objects)
