"""``kick`` tells whose sessions it would end, and ends no others: on a real HAProxy, and at a
socket that answers as HAProxy does only now and then."""

import contextlib
import signal
from collections.abc import Sequence

import pytest
from cli import Start, command, run_cli
from peers import Connection, MakeClient, MakePeer, Peer, Script
from stand import MakeServer, MakeStand, Stand, app, await_, converged, held, running

from sidecar.cli.kick import Prospect, Tally, end, foresee
from sidecar.cli.targets import Named
from sidecar.common.errors import CommandRefusedError
from sidecar.haproxy.client import RuntimeClient


def test_sessions_that_a_former_route_left_are_told_apart(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand = make_stand()
    a, b = make_server("a"), make_server("b")
    stand.write("web.yaml", *app("web", 30000, [a]))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        held(files, stand, 30000)
        stand.manifests.joinpath("web.yaml").unlink()
        stand.write("other.yaml", *app("other", 30000, [b]))
        await_(lambda: b.address in stand.ready(30000), "the port is another Route's")
        converged(daemon)
        held(files, stand, 30000)
        slots = stand.slots(30000)
        ours = ("-c", stand.settings_file)
        asked = run_cli("kick", "30000", *ours)
        former = f"1 on {slots[a.address]} {a.address} (in maint, not a server of demo/other)"
        own = f"1 on {slots[b.address]} {b.address}"
        assert asked.err.startswith(
            "haproxy-sidecar: end 2 sessions on port 30000 (demo/other):"
            f" {former}, {own}; at most 100 per second? stdin is not a terminal"
        ), asked.err
        done = run_cli("kick", "30000", "--yes", *ours)
        assert done.code == 0
        lines = done.out.splitlines()
        assert lines[0] == "ended 2 sessions on port 30000 (demo/other)"
        assert sorted(lines[1:]) == sorted([f"  {former}", f"  {own}"])


# -- at a socket -----------------------------------------------------------------------------------

ROW = (
    "{id}: proto=tcpv4 src={client} fe=tcp-30000 be=be_tcp-30000 srv={server} ts=00 epoch=0 age=1s"
    " calls=3 rate=0 cpu=0 lat=0 exp=59m58s rc=0 c_exp=\n"
)
STATE = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight"
    " srv_time_since_last_change srv_check_state srv_agent_state srv_port\n"
    "3 be_tcp-30000 1 s1 10.0.0.1 2 0 1 5 0 0 80\n"
    "3 be_tcp-30000 2 s2 10.0.0.2 2 1 1 5 0 0 80\n"
)
REFUSED = "Permission denied"

#: Name, client and server of one in `show sess`.
Row = tuple[str, str, str]


def haproxy(lists: Sequence[Sequence[Row]], refused: Sequence[str] = ()) -> Script:
    """One that shows ``lists``, one after the other, and refuses to end those named ``refused``."""
    left = list(lists)

    def answer(connection: Connection) -> None:
        connection.greet()
        while line := connection.line():
            words = line.decode().split()
            reply = ""
            if words == ["show", "sess"]:
                shown = left.pop(0) if len(left) > 1 else left[0]
                reply = "".join(ROW.format(id=i, client=c, server=s) for i, c, s in shown)
            elif words[:3] == ["show", "servers", "state"]:
                reply = STATE
            elif words[:2] == ["shutdown", "session"] and words[2] in refused:
                reply = f"{REFUSED}\n"
            connection.send(f"{reply}\n> ".encode())

    return answer


def ended(peer: Peer) -> list[str]:
    """The names of those that it was asked to end."""
    return [line.split()[2] for line in peer.lines if line.startswith("shutdown session ")]


@pytest.fixture
def named() -> Named:
    return Named(30000, "demo/web", {"10.0.0.1:80": "web-1"}, "", frozenset({"10.0.0.2:80"}))


@pytest.fixture
def tally() -> Tally:
    return Tally()


def kicked(client: RuntimeClient, named: Named, tally: Tally, pace: int = 100) -> Prospect:
    prospect = foresee(client, named, None)
    end(client, prospect, pace, tally, lambda _: None)
    return prospect


#: What HAProxy has at first, and at each step; how many go in a step; whose are ended, and how that
#: is told.
SAME = {
    "it uses a session's name again at once": (
        [
            [
                ("0x1", "10.9.0.1:1", "s1"),
                ("0x2", "10.9.0.1:2", "s1"),
                ("0x3", "10.9.0.1:3", "s1"),
                ("0x4", "10.9.0.1:4", "s2"),
            ],
            [
                ("0x1", "10.9.0.1:1", "s1"),
                ("0x2", "10.9.0.9:2", "s1"),  # another client
                ("0x3", "10.9.0.1:3", "s2"),  # another server
                ("0x5", "10.9.0.1:4", "s2"),  # another name
                ("0x6", "10.9.0.1:6", "s1"),
            ],
        ],
        100,
        ["0x1"],
        [
            "ended 1 session on port 30000 (demo/web)",
            "  1 on s1 10.0.0.1:80 web-1",
            "  3 more ended on their own",
        ],
    ),
    "one that waited for a server has it by now": (
        [
            [("0x1", "10.9.0.1:1", "<none>"), ("0x2", "10.9.0.1:2", "<none>")],
            [("0x1", "10.9.0.1:1", "s1"), ("0x2", "10.9.0.1:2", "<none>")],
            # By the second step the other has one, too.
            [("0x2", "10.9.0.1:2", "s2")],
        ],
        1,
        ["0x1", "0x2"],
        [
            "ended 2 sessions on port 30000 (demo/web)",
            "  1 on s1 10.0.0.1:80 web-1",
            "  1 on s2 10.0.0.2:80 (in maint, not a server of demo/web)",
        ],
    ),
}


@pytest.mark.parametrize(("answers", "pace", "names", "lines"), SAME.values(), ids=SAME)
def test_only_the_same_sessions_are_ended(
    make_peer: MakePeer,
    make_client: MakeClient,
    named: Named,
    tally: Tally,
    answers: list[list[tuple[str, str, str]]],
    pace: int,
    names: list[str],
    lines: list[str],
) -> None:
    peer = make_peer(haproxy(answers))
    prospect = kicked(make_client(peer.address), named, tally, pace)
    assert ended(peer) == names
    assert list(tally.lines(prospect)) == lines


def test_what_was_refused_is_told(
    make_peer: MakePeer, make_client: MakeClient, named: Named, tally: Tally
) -> None:
    rows = [(f"0x{number}", f"10.9.0.1:{number}", "s1") for number in range(1, 6)]
    peer = make_peer(haproxy([rows], refused=[name for name, *_ in rows[1:]]))
    prospect = kicked(make_client(peer.address), named, tally)
    assert len(ended(peer)) == 5
    assert next(tally.lines(prospect)) == "ended 1 session on port 30000 (demo/web)"
    assert tally.gone == 0
    assert [type(error) for error in tally.refused] == [CommandRefusedError] * 4
    told = list(tally.refusals())
    assert len(told) == 3
    assert all(line.startswith("not ended: ") and REFUSED in line for line in told)


def test_whoever_comes_after_the_question_is_left_alone(
    make_peer: MakePeer, make_client: MakeClient, named: Named, tally: Tally
) -> None:
    """Also where the port became another Route's while somebody thought about the answer."""
    before = [("0x1", "10.9.0.1:1", "s1")]
    later = [*before, ("0x2", "10.9.0.1:2", "s2")]
    peer = make_peer(haproxy([before, later]))
    prospect = kicked(make_client(peer.address), named, tally)
    assert prospect.question(5) == (
        "end 1 session on port 30000 (demo/web): 1 on s1 10.0.0.1:80 web-1; at most 5 per second?"
    )
    assert ended(peer) == ["0x1"]


def test_a_question_names_the_servers(
    make_peer: MakePeer, make_client: MakeClient, named: Named
) -> None:
    servers = ["s1", "s1", "s2", "<none>", *(f"s{number}" for number in range(5, 13))]
    rows = [(f"0x{n}", f"10.9.0.1:{n}", name) for n, name in enumerate(servers, 1)]
    client = make_client(make_peer(haproxy([rows])).address)
    assert foresee(client, named, None).question(5) == (
        "end 12 sessions on port 30000 (demo/web):"
        " 1 on s2 10.0.0.2:80 (in maint, not a server of demo/web), 2 on s1 10.0.0.1:80 web-1,"
        " 1 on no server yet, 1 on s10, 1 on s11, 1 on s12, 5 on 5 more servers;"
        " at most 5 per second?"
    )
    assert foresee(client, named, "s1").question(5) == (
        "end 2 sessions on port 30000 (demo/web), server s1: 2 on s1 10.0.0.1:80 web-1;"
        " at most 5 per second?"
    )
    nobody = named.__class__(30000, None, {}, "", named.former)
    assert "1 on s2 10.0.0.2:80 (in maint, not a server of a Route), 2" in foresee(
        client, nobody, None
    ).question(5)


@pytest.fixture
def away(make_stand: MakeStand) -> Stand:
    """Settings, and nobody at its sockets."""
    return make_stand(start=False)


def test_the_exit_code_says_that_some_were_refused(away: Stand, make_peer: MakePeer) -> None:
    rows = [("0x1", "10.9.0.1:1", "s1"), ("0x2", "10.9.0.1:2", "s1")]
    make_peer(haproxy([rows], refused=["0x2"]), where=away.settings.haproxy.socket)
    done = run_cli("kick", "30000", "--yes", "-c", away.settings_file)
    assert done.code == 1
    assert done.out == "ended 1 session on port 30000\n  1 on s1 10.0.0.1:80\n"
    assert done.err.startswith("not ended: ")
    assert REFUSED in done.err


def test_who_interrupts_it_is_told_how_far_it_was(
    away: Stand, make_peer: MakePeer, start: Start
) -> None:
    rows = [(f"0x{number}", f"10.9.0.1:{number}", "s1") for number in range(1, 9)]
    make_peer(haproxy([rows]), where=away.settings.haproxy.socket)
    process = start(command("kick", "30000", "--per-second", 1, "--yes", "-c", away.settings_file))
    process.await_said("ended 1 of 8")
    process.send(signal.SIGINT)
    assert process.wait() == 130
    assert "interrupted; so far:\nended " in process.said
    assert "ended 8 of 8" not in process.said
