"""`sidecar.common.durations`: times as HAProxy writes them, and as seconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.durations import DURATION_MAX_SECONDS, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("5s", 5.0),
        ("1m", 60.0),
        ("1h", 3600.0),
        ("2d", 172800.0),
        ("250us", 0.00025),
        ("1.5s", 1.5),
        (" 10s ", 10.0),
        ("0", 0.0),
        ("0s", 0.0),
        ("007s", 7.0),
        ("24d", 2073600.0),
        ("2147483647ms", DURATION_MAX_SECONDS),
    ],
)
def test_what_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        *("", "5", "s", "-5s", "+5s", "5 s", "5S", "5sec", "1h30m", "5s\n5s", "1,5s", ".5s", "5.s"),
        *("1e3s", "0x5s", "nan", "infs", "\uff15s"),
    ],
)
def test_what_is_no_time_is_refused_with_what_would_be_one(text: str) -> None:
    with pytest.raises(ValueError, match="number and a unit of us, ms, s, m, h or d, like 500ms"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["25d", "2147483648ms", "9" * 400 + "s", "9" * 5000 + "h"])
def test_more_than_haproxy_takes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="at most 24d"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0ms"), (0.5, "500ms"), (1.5, "1500ms"), (0.1 + 0.2, "300ms"), (5, "5s")),
        *((90, "90s"), (120, "2m"), (3600, "1h"), (90000, "25h"), (86400, "1d")),
    ],
)
def test_what_is_written(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 2**31 - 1))
def test_every_time_that_haproxy_keeps_survives_writing_and_reading(milliseconds: int) -> None:
    text = format_duration(milliseconds / 1000)
    assert round(parse_duration(text) * 1000) == milliseconds
    assert len(text) <= len(f"{milliseconds}ms")
