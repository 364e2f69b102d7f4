"""What the writer has before it: which keys are due, and what is known of them then."""

import itertools
from dataclasses import replace

from replica import open_on, refused

from sidecar.model.change import Change
from sidecar.model.objects import Key, RouteStatus
from sidecar.reporting.cluster.backlog import PUBLISH_AFTER_SECONDS, Backlog

WEB, DB = Key("Route", "demo", "web"), Key("Route", "demo", "db")
SERVICE = Key("Service", "ingress", "router")
NOW, LATER = 100.0, 200.0


def status(route: Key, uid: str = "1", version: str = "1") -> RouteStatus:
    return RouteStatus(route.namespace, route.name, uid, version, "", "[]")


def seen(*statuses: RouteStatus) -> list[Change]:
    return [Change(item.key, item) for item in statuses]


def due(backlog: Backlog, now: float) -> list[Key]:
    keys = []
    while (key := backlog.take(now).key) is not None:
        keys.append(key)
    return keys


def test_what_is_told_is_due_once_and_the_service_after_the_ports() -> None:
    backlog = Backlog(SERVICE)
    backlog.tell(seen(status(WEB)), open_on("web"), {}, NOW)
    backlog.tell([], open_on("web"), {}, NOW)
    assert due(backlog, NOW) == [WEB]
    assert backlog.take(NOW).wait_seconds == PUBLISH_AFTER_SECONDS
    assert due(backlog, NOW + PUBLISH_AFTER_SECONDS) == [SERVICE]
    backlog.tell(seen(status(WEB, version="2")), open_on("web"), {}, LATER)
    # The ports are what they were.
    assert due(backlog, LATER + PUBLISH_AFTER_SECONDS) == [WEB]


def test_what_became_of_a_route_is_due_when_it_is_another() -> None:
    backlog = Backlog(None)
    told = [open_on("web"), refused("web"), {WEB: None}, open_on("web")]
    backlog.tell(seen(status(WEB)), told[0], {}, NOW)
    assert due(backlog, NOW) == [WEB]
    for former, new in itertools.pairwise(told):
        again = {key: item and replace(item) for key, item in former.items()}
        backlog.tell([], again, {}, NOW)
        assert due(backlog, LATER) == []
        backlog.tell([], new, {}, NOW)
        assert due(backlog, NOW) == [WEB]
    # None for one that was never told is new, too.
    backlog.tell(seen(status(DB)), {}, {}, NOW)
    due(backlog, NOW)
    backlog.tell([], {DB: None}, {}, NOW)
    assert due(backlog, NOW) == [DB]


def test_ports_are_known_once_all_routes_are() -> None:
    backlog = Backlog(SERVICE)
    assert backlog.ports() is None
    backlog.tell(seen(status(WEB), status(DB)), open_on("web"), {}, NOW)
    assert backlog.ports() is None
    backlog.tell([], refused("db"), {}, NOW)
    assert backlog.ports() == {30000: True}


def test_a_port_that_routes_share_is_open_if_any_of_them_gets_clients() -> None:
    waiting = {key: replace(item, open=False) for key, item in open_on("db").items() if item}
    for told in ({**open_on("web"), **waiting}, {**waiting, **open_on("web")}):
        backlog = Backlog(SERVICE)
        backlog.tell(seen(status(WEB), status(DB)), told, {}, NOW)
        assert backlog.ports() == {30000: True}


def test_another_route_of_the_name_does_not_get_what_became_of_the_last() -> None:
    backlog = Backlog(SERVICE)
    backlog.tell(seen(status(WEB)), open_on("web"), {}, NOW)
    backlog.tell(seen(status(WEB, uid="2")), {}, {}, NOW)
    assert not backlog.known(WEB).told
    assert backlog.known(WEB).status == status(WEB, uid="2")


def test_what_the_watch_brought_is_not_replaced_by_what_we_wrote() -> None:
    backlog = Backlog(None)
    first, ours, newest = (status(WEB, version=version) for version in "123")
    backlog.tell(seen(first), {}, {}, NOW)
    backlog.wrote(WEB, first, ours)
    assert backlog.known(WEB).status is ours
    backlog.tell(seen(newest), {}, {}, NOW)
    backlog.wrote(WEB, ours, first)
    assert backlog.known(WEB).status is newest


def test_what_gives_way_comes_after_all_others() -> None:
    backlog = Backlog(None)
    backlog.later_than_others(WEB, NOW)
    backlog.later(DB, LATER)
    assert due(backlog, LATER) == [DB, WEB]


def test_a_new_leader_begins_anew_with_all_that_is_known() -> None:
    backlog = Backlog(SERVICE)
    backlog.tell(seen(status(WEB), status(DB)), open_on("web"), {}, NOW)
    due(backlog, LATER)
    assert not backlog.take(LATER).anew
    backlog.begin_anew(LATER)
    turn = backlog.take(LATER)
    assert turn.anew
    assert {turn.key, *due(backlog, LATER)} == {WEB, DB}
    assert due(backlog, LATER + PUBLISH_AFTER_SECONDS) == [SERVICE]
    assert not backlog.take(LATER).anew
