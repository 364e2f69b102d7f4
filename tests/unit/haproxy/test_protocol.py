"""The wire format: one command is one line, and replies are framed however they are split."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.errors import LocalProtocolError, RemoteProtocolError
from sidecar.haproxy.protocol import (
    IN_FLIGHT_MAX_BYTES,
    REPLY_MAX_BYTES,
    WITH_PAYLOAD_MAX_BYTES,
    Command,
    ReplyFraming,
    encode,
    encode_line,
    without_echo,
)

# -- commands ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argument",
    [
        ";",
        "s1;disable",
        "s1\nquit",
        "s1\r",
        "s1\t",
        "s1\0",
        "s1\x1b",
        "s1\x7f",
        "<<",
        "a<<b",
        "s 1",
        " s1",
        "s1 ",
        "",
        "\\",
        "s1\\",
        '"',
        '"s1"',
        "'",
        "s\N{LATIN SMALL LETTER U WITH DIAERESIS}",
        "s\N{NO-BREAK SPACE}1",
        "s\N{LINE SEPARATOR}1",
        "\ud800",
        "x" * IN_FLIGHT_MAX_BYTES,
    ],
)
def test_an_argument_that_haproxy_would_misread_is_refused(argument: str) -> None:
    with pytest.raises(LocalProtocolError):
        encode(Command.of("set", "server", argument, "state", "ready"))


@pytest.mark.parametrize("arguments", [(), ("",), ("show", ""), ("", "info")])
def test_an_empty_command_or_argument_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(LocalProtocolError):
        encode(Command.of(*arguments))


@pytest.mark.parametrize("line", ["", " ", "   ", "\n", "a;b", "a\nb", "x" * IN_FLIGHT_MAX_BYTES])
def test_a_line_that_is_not_one_command_is_refused(line: str) -> None:
    with pytest.raises(LocalProtocolError):
        encode_line(line)


def test_a_refusal_names_what_cannot_be_sent() -> None:
    with pytest.raises(LocalProtocolError, match=r"';' cannot be sent in a command: 'a;b'"):
        encode_line("a;b")


def test_a_command_is_its_arguments_and_a_newline() -> None:
    command = encode(Command.of("set", "server", "be_tcp-1/s1", "addr", "fd00::1", "port", "80"))
    assert command == b"set server be_tcp-1/s1 addr fd00::1 port 80\n"


def test_a_hash_sign_is_a_letter() -> None:
    assert encode(Command.of("show", "map", "#0")) == b"show map #0\n"


def test_the_longest_command_just_fits_in_flight() -> None:
    assert len(encode(Command("x" * (IN_FLIGHT_MAX_BYTES - 1)))) == IN_FLIGHT_MAX_BYTES
    with pytest.raises(LocalProtocolError, match="longer than HAProxy's buffer"):
        encode(Command("x" * IN_FLIGHT_MAX_BYTES))


@given(st.lists(st.text() | st.text(alphabet="ab;<> \\\n'\"#"), min_size=1, max_size=5))
def test_any_arguments_are_refused_or_arrive_as_one_line_of_the_same_words(
    arguments: list[str],
) -> None:
    try:
        command = encode(Command.of(*arguments))
    except LocalProtocolError:
        return
    assert command.count(b"\n") == 1
    assert command.endswith(b"\n")
    assert b";" not in command
    assert b"<<" not in command
    assert command[:-1].decode("ascii").split(" ") == arguments


# -- payloads ----------------------------------------------------------------------------------


def test_a_payload_stands_behind_its_line_and_ends_with_an_empty_one() -> None:
    command = Command.of("add", "map", "hosts", payload=b"a.example be_1\nb.example two words\n")
    assert encode(command) == b"add map hosts <<\na.example be_1\nb.example two words\n\n"


@pytest.mark.parametrize("payload", [b"", b"\n", b"a\n\nquit", b"a\n \nb", b"a\r\n\r\nb", b"a\0"])
def test_a_payload_that_would_end_early_is_refused(payload: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="payload"):
        encode(Command.of("add", "map", "hosts", payload=payload))


def test_a_payload_has_a_bound_of_its_own() -> None:
    rest = len(encode(Command.of("add", "map", "hosts", payload=b"x"))) - 1
    most = WITH_PAYLOAD_MAX_BYTES - rest
    assert len(encode(Command("add map hosts", b"x" * most))) == WITH_PAYLOAD_MAX_BYTES
    with pytest.raises(LocalProtocolError, match=f"{WITH_PAYLOAD_MAX_BYTES + 1} bytes"):
        encode(Command("add map hosts", b"x" * (most + 1)))


@given(st.binary(max_size=300) | st.binary(min_size=15_900, max_size=16_100))
def test_no_error_and_no_text_shows_a_payload(payload: bytes) -> None:
    secret = b"k3y-" + payload.replace(b"k", b"") + b"-k3y"
    command = Command.of("set", "ssl", "cert", "a.pem", payload=secret)
    texts = [str(command), repr(command)]
    try:
        assert secret in encode(command)
    except LocalProtocolError as exc:
        texts += [str(exc), repr(exc)]
    assert not any("k3y" in text for text in texts)


@pytest.mark.parametrize("echo", ["", "+ ", "+ + + "])
def test_what_haproxy_says_for_each_line_of_a_payload_is_no_reply(echo: str) -> None:
    assert without_echo(f"{echo}Success!") == "Success!"
    assert without_echo(echo) == ""


# -- replies -----------------------------------------------------------------------------------

_STATE_HEADER = (
    b"1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight"
    b" srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health"
    b" srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord"
    b" srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n"
)
_STATE_ROW = b"3 be_tcp-30000 1 s1 10.0.0.1 0 5 5 256 1 1 0 0 8 0 0 0 slot.invalid 81 - 0 0 - - 0\n"
_STATE = _STATE_HEADER + _STATE_ROW
_HELP_START = (
    b"The following commands are valid at this level:\n"
    b"  set maxconn server <bk>/<srv>           : change a server's maxconn setting\n"
)

#: What the versions sent on one connection, as it came: (bytes, the reply they are).
CAPTURED: dict[str, list[tuple[bytes, str]]] = {
    "2.6.12": [
        (b"\n> ", ""),
        (
            b"no need to change the addr, port changed from '1' to '80' by 'x'\n\n> ",
            "no need to change the addr, port changed from '1' to '80' by 'x'",
        ),
        (b"\n> ", ""),
        # No empty line before the prompt here; from 3.0 on there is one.
        (
            b"Empty weight string empty or preceded by garbage\n> ",
            "Empty weight string empty or preceded by garbage",
        ),
        (b"No such server.\n\n> ", "No such server."),
        (b"All sockets are already disabled.\n\n> ", "All sockets are already disabled."),
        (_STATE + b"\n> ", _STATE.decode().strip("\n")),
        (
            _HELP_START + b"  prompt                                  : toggle interactive mode"
            b" with prompt\n\n> ",
            _HELP_START.decode() + "  prompt                                  : toggle interactive"
            " mode with prompt",
        ),
        (b"\n> ", ""),
    ],
    "3.0.11": [
        (b"\n> ", ""),
        (b"nothing changed\n\n> ", "nothing changed"),
        (
            b"Empty weight string empty or preceded by garbage\n\n> ",
            "Empty weight string empty or preceded by garbage",
        ),
        (b"\n> ", ""),
        (_STATE + b"\n> ", _STATE.decode().strip("\n")),
        (
            _HELP_START + b"  prompt [timed]                          : toggle interactive mode"
            b" with prompt\n\n> ",
            _HELP_START.decode() + "  prompt [timed]                          : toggle interactive"
            " mode with prompt",
        ),
    ],
    "3.2.26": [
        (b"\n> ", ""),
        (b"> x\n\n> ", "> x"),  # of "echo > x"
        (b">\n\n> ", ">"),
        (b"\n> ", ""),
        (_STATE + b"\n> ", _STATE.decode().strip("\n")),
        (
            b"port changed from '80' to '81' by 'stats socket command'\n\n> ",
            "port changed from '80' to '81' by 'stats socket command'",
        ),
    ],
    # Nothing that we ask answers so, and framing must not care.
    "blank lines and prompts that are none": [
        (b"a\n\n\nb\n\n> ", "a\n\n\nb"),
        (b"a\n>b\n >\n>\n\n> ", "a\n>b\n >\n>"),
        (b"a > b\n\n> ", "a > b"),
        (b"\xff\xfe\n\n> ", "\xff\xfe"),
        (b"\n>\n\n> ", ">"),
    ],
}


@pytest.fixture(params=CAPTURED)
def captured(request: pytest.FixtureRequest) -> tuple[bytes, list[str]]:
    """A stream, and the replies that are in it."""
    pairs = CAPTURED[request.param]
    return b"".join(data for data, _ in pairs), [reply for _, reply in pairs]


def feed(*chunks: bytes) -> list[str]:
    framing = ReplyFraming()
    replies = list(itertools.chain.from_iterable(map(framing.receive_data, chunks)))
    assert framing.idle
    assert framing.unfinished == ""
    return replies


def test_a_stream_is_cut_into_its_replies(captured: tuple[bytes, list[str]]) -> None:
    stream, replies = captured
    assert feed(stream) == replies


def test_a_cut_at_any_byte_changes_nothing(captured: tuple[bytes, list[str]]) -> None:
    stream, replies = captured
    for position in range(len(stream) + 1):
        assert feed(stream[:position], stream[position:]) == replies, position


def test_two_cuts_anywhere_around_a_prompt_change_nothing() -> None:
    stream = b"a\n\n> \n> >\n> b\n\n> "
    for first, second in itertools.combinations(range(len(stream) + 1), 2):
        chunks = (stream[:first], stream[first:second], stream[second:])
        assert feed(*chunks) == ["a", "", ">", "b"], (first, second)


def test_bytes_one_by_one_change_nothing(captured: tuple[bytes, list[str]]) -> None:
    stream, replies = captured
    assert feed(*(stream[i : i + 1] for i in range(len(stream)))) == replies


def test_a_reply_is_given_as_soon_as_its_prompt_is_complete() -> None:
    framing = ReplyFraming()
    assert framing.receive_data(b"one\n\n>") == []
    assert not framing.idle
    assert framing.unfinished == "one\n\n>"
    assert framing.receive_data(b" two") == ["one"]
    assert framing.unfinished == "two"
    assert framing.receive_data(b"\n\n> ") == ["two"]
    assert framing.idle


#: Texts of replies: whatever does not contain the prompt itself.
_TEXTS = st.text(alphabet="ab> \n\r\xe4", max_size=30).filter(
    lambda text: "\n> " not in f"{text}\n"
)


@given(st.lists(st.tuples(_TEXTS, st.sampled_from([b"\n> ", b"\n\n> "])), max_size=8), st.data())
def test_framing_survives_every_split(
    replies: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(text.encode("latin-1") + end for text, end in replies)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    edges = [0, *cuts, len(stream)]
    chunks = [stream[low:high] for low, high in itertools.pairwise(edges)]
    assert feed(*chunks) == [text.strip("\n") for text, _ in replies]


def test_a_big_reply_arrives_whole() -> None:
    reply = _STATE_HEADER + _STATE_ROW * 60_000
    stream = b"\n> " + reply + b"\n> " + b"\n> "
    chunks = [stream[at : at + 65_537] for at in range(0, len(stream), 65_537)]
    assert len(chunks) > 70
    assert feed(*chunks) == ["", reply.decode().strip("\n"), ""]


def test_what_is_too_big_for_a_reply_is_an_error_and_not_memory_for_ever() -> None:
    framing = ReplyFraming()
    chunk = b"x" * (16 * 1024 * 1024)
    for _ in range(REPLY_MAX_BYTES // len(chunk)):
        assert framing.receive_data(chunk) == []
    with pytest.raises(RemoteProtocolError, match="more than"):
        framing.receive_data(b"x")


def test_an_unfinished_reply_is_shown_shortened() -> None:
    framing = ReplyFraming()
    framing.receive_data(b"y" * 5000)
    assert framing.unfinished == "y" * 80
