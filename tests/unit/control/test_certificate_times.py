"""`sidecar.control.certificate_times`: since when certificates are served, and what is counted."""

from collections.abc import Mapping

import pytest

from sidecar.common.metrics import Metrics
from sidecar.control.certificate_times import CertificateTimes

HOST, OTHER = "a.test", "b.test"


class Timed:
    """One with a clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.metrics = Metrics()
        self.times = CertificateTimes(self.metrics, lambda: self.now)

    def step(
        self,
        wanted: Mapping[str, str],
        served: Mapping[str, str] | None = None,
        loaded: str = "",
        *,
        first: bool = False,
    ) -> None:
        """``served``: all that are wanted."""
        self.times.want(wanted)
        self.times.serve(wanted if served is None else served, loaded.split(), first=first)

    def counted(self) -> tuple[float, float, float]:
        """How often something changed, how many changes came to an end, after how many seconds in
        all."""

        def value(name: str) -> float:
            found = self.metrics.registry.get_sample_value(f"haproxy_sidecar_{name}")
            assert found is not None
            return found

        return (
            value("certificates_changed_total"),
            value("certificate_served_seconds_count"),
            value("certificate_served_seconds_sum"),
        )


@pytest.fixture
def timed() -> Timed:
    return Timed()


def test_what_was_there_before_us_is_no_change(timed: Timed) -> None:
    timed.now = 5.0
    timed.step({HOST: "x", OTHER: "y"}, loaded="y", first=True)
    assert timed.times.since == {HOST: 5.0, OTHER: 5.0}
    assert timed.counted() == (1, 1, 0.0)


def test_from_picking_it_up_until_it_is_served(timed: Timed) -> None:
    timed.step({}, first=True)
    timed.now = 10.0
    timed.times.picked_up()
    # Of several changes before one step, the first one counts.
    timed.now = 11.0
    timed.times.picked_up()
    timed.step({HOST: "x"}, {})
    assert timed.times.since == {}
    timed.now = 14.0
    timed.step({HOST: "x"})
    assert timed.counted() == (1, 1, 4.0)
    assert timed.times.since == {HOST: 14.0}
    # A look that shows the same is nothing new.
    timed.now = 20.0
    timed.step({HOST: "x"})
    assert timed.counted() == (1, 1, 4.0)
    assert timed.times.since == {HOST: 14.0}


def test_a_former_one_is_served_meanwhile(timed: Timed) -> None:
    timed.step({HOST: "x"}, first=True, loaded="x")
    timed.now = 10.0
    timed.times.picked_up()
    timed.step({HOST: "y"}, {HOST: "x"})
    assert timed.times.since == {HOST: 0.0}
    assert timed.counted() == (1, 1, 0.0)
    # It changes once more before it came.
    timed.now = 20.0
    timed.times.picked_up()
    timed.now = 21.0
    timed.step({HOST: "z"}, loaded="z")
    assert timed.times.since == {HOST: 21.0}
    assert timed.counted() == (2, 2, 1.0)


def test_one_that_goes_is_a_change_but_nobody_waited_for_it(timed: Timed) -> None:
    timed.step({HOST: "x", OTHER: "y"}, loaded="x y", first=True)
    timed.now = 10.0
    timed.times.picked_up()
    timed.step({HOST: "x"})
    assert timed.times.since == {HOST: 0.0}
    assert timed.counted() == (3, 2, 0.0)
    # And one that is not wanted any more before it was served.
    timed.step({HOST: "x", OTHER: "z"}, {HOST: "x"})
    timed.step({HOST: "x"})
    timed.now = 99.0
    timed.step({HOST: "x", OTHER: "z"})
    assert timed.counted() == (4, 3, 0.0)


def test_another_haproxy_serves_since_it_is_there(timed: Timed) -> None:
    timed.step({HOST: "x", OTHER: "y"}, loaded="x y", first=True)
    timed.now = 10.0
    timed.step({HOST: "x", OTHER: "y"}, {HOST: "x"}, first=True)
    assert timed.times.since == {HOST: 10.0}
    timed.now = 12.0
    timed.step({HOST: "x", OTHER: "y"}, loaded="y")
    assert timed.times.since == {HOST: 10.0, OTHER: 12.0}
    assert timed.counted() == (3, 2, 0.0)


def test_attempts(timed: Timed) -> None:
    timed.times.tried(2, 1)
    timed.times.tried(0, 1)
    registry = timed.metrics.registry
    assert registry.get_sample_value("haproxy_sidecar_certificates_loaded_total") == 2
    assert registry.get_sample_value("haproxy_sidecar_certificates_refused_total") == 2
