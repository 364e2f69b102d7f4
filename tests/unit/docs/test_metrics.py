"""docs/reference.md has every metric, with its type and labels, and no other."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from book import rows, words
from prometheus_client.metrics import MetricWrapperBase
from reported import certificate, host, port, report, traffic
from stand import pool_of

from sidecar.common.metrics import Metrics
from sidecar.reporting.gauges import Gauges
from sidecar.reporting.reports import AttemptsReport

_WORD = re.compile(r"(…?\w+)(?:\{([^}]*)\})?")
#: Prometheus' own, of a histogram's samples.
_OF_BUCKETS = {"le"}


class Told(NamedTuple):
    """``name``: with … in front, if it only ends like that."""

    name: str
    kind: str
    labels: set[str]


def told() -> Iterator[Told]:
    """… is what was said above: first among the labels the former ones, last what the text says,
    as the beginning of a name that of the former name in its row."""
    former: set[str] = set()
    for names, kind, text in rows("docs/reference.md", "Metrics"):
        labels: set[str] = set()
        for word in words(names):
            found = _WORD.fullmatch(word)
            assert found, word
            if found[2] is not None:
                first, *others = found[2].split(",")
                labels = {first, *others} - {"…"}
                if first == "…":
                    labels |= former
                else:
                    former = labels.copy()
                if others and others[-1] == "…":
                    labels |= set(words(text.partition(". ")[0]))
            yield Told(found[1], kind, labels)


def full_name(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


def gauges() -> dict[str, Told]:
    """Those of a report with one of everything."""
    attempts = AttemptsReport(41.0, 900, 12, 30, 4)
    found = report(
        port(30000, connections=1, connections_limit=9, attempts=attempts, held=True),
        hosts=(host("shop.example", traffic=traffic(1, 2, 3), certificate=certificate(9)),),
        default_certificate=certificate(9),
    )
    pool = pool_of({"ports": ["30000"]})
    return {
        (name := full_name(family.name, family.type)): Told(
            name, family.type, {label for sample in family.samples for label in sample.labels}
        )
        for family in Gauges(lambda: found, pool).collect()
    }


def own() -> dict[str, MetricWrapperBase]:
    found = {}
    for item in vars(Metrics()).values():
        if isinstance(item, MetricWrapperBase):
            (family,) = item.describe()
            found[full_name(family.name, family.type)] = item
    return found


def has_labels(item: MetricWrapperBase, labels: set[str]) -> bool:
    """It takes just these, as it is told them."""
    if labels:
        try:
            item = item.labels(**dict.fromkeys(labels, "any"))
        except ValueError:
            return False
    (family,) = item.collect()
    return bool(family.samples)


def is_called(name: str, told_as: str) -> bool:
    ending = told_as.removeprefix("…")
    return name == ending if ending == told_as else name.endswith(ending)


def test_every_metric_is_explained_and_exists() -> None:
    """By its name, or how that ends."""
    of_report, of_itself = gauges(), own()
    every = {*of_report, *of_itself}
    assert len(every) > 40
    seen, wrong = set(), []
    for item in told():
        found = [name for name in every if is_called(name, item.name)]
        if len(found) != 1:
            wrong.append(f"{item.name} is {found or 'no metric'}")
            continue
        (name,) = found
        seen.add(name)
        if name in of_report:
            kind, right = of_report[name].kind, of_report[name].labels == item.labels
        else:
            (family,) = of_itself[name].describe()
            kind, right = family.type, has_labels(of_itself[name], item.labels)
        if kind != item.kind:
            wrong.append(f"{name} is a {kind}, not a {item.kind}")
        if not right:
            wrong.append(f"{name} has other labels than {sorted(item.labels)}")
    assert wrong == []
    assert every - seen == set()
