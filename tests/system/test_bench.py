"""The benches run, write their tables into docs/figures.md and nothing else there, and what they
count is right. How long things take is the machine's affair, and not tested.
"""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from book import all_to_type
from cli import ROOT, clean_environment
from stand import HAPROXY

#: Label of a row -> its cells.
Rows = dict[str, list[str]]

#: What a reader of docs/figures.md is told to type, by the name that bench/all.py has for it.
SCRIPTS = {
    Path(block.text.strip()).stem: block
    for block in all_to_type("docs/figures.md", "python bench/")
}

_BLOCK = re.compile(r"<!-- bench: (\w+) -->\n(.*?)<!-- end -->", re.DOTALL)

_SMOKE_SECONDS = 300

pytestmark = [pytest.mark.timeout(_SMOKE_SECONDS + 30), pytest.mark.serial]


def run_bench(name: str, figures: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "bench/all.py", "--smoke", "--only", name, "--write", figures],
        cwd=ROOT,
        env={**clean_environment(), "HAPROXY": HAPROXY},
        capture_output=True,
        text=True,
        check=False,
        timeout=_SMOKE_SECONDS,
    )


def rows_of(name: str, tmp_path: Path) -> Rows:
    """What the bench wrote into a copy of docs/figures.md, where all else has to stay."""
    assert name in SCRIPTS, f"docs/figures.md has no bench/{name}.py"
    before = (ROOT / "docs/figures.md").read_text()
    figures = tmp_path / "figures.md"
    figures.write_text(before)
    done = run_bench(name, figures)
    assert done.returncode == 0, done.stderr[-3000:]
    after = figures.read_text()
    blocks, former = dict(_BLOCK.findall(after)), dict(_BLOCK.findall(before))
    assert blocks.pop(name) != former.pop(name)
    assert blocks == former
    assert _BLOCK.sub("", after) == _BLOCK.sub("", before)
    table = dict(_BLOCK.findall(after))[name]
    cells = [line.strip("|\n ").split(" | ") for line in table.splitlines() if line[:2] == "| "]
    return {label.strip(): [cell.strip() for cell in rest] for label, *rest in cells[1:]}


def numbers(cells: list[str]) -> list[float]:
    return [float(re.findall(r"[\d.,]+", cell)[0].replace(",", "")) for cell in cells]


def test_an_event_costs_the_same_few_commands_on_any_number_of_ports(tmp_path: Path) -> None:
    rows = rows_of("churn", tmp_path)
    # The new address, ready, maint for the old one, and parked.
    assert max(numbers(rows["changing commands of an event"])) <= 4.0
    # A look asks two or three things of the port that changed. From 3.0 on it may take several to
    # see an address; one that asked for each of 20 ports would be far above.
    assert max(numbers(rows["all commands of an event"])) <= 18.0
    # 3 up to 2.8: look, address, ready. From 3.0 on an address is looked for in one of its own.
    assert max(numbers(rows["exchanges with HAProxy of an event"])) <= 8.0
    for cell in rows["changing commands of it / of the bare"]:
        ours, bare = numbers(cell.split(" / "))
        assert 0 < ours <= bare


def test_the_process_becomes_ready_and_its_memory_is_read(tmp_path: Path) -> None:
    rows = rows_of("process", tmp_path)
    for idle, most in zip(
        numbers(rows["memory (RSS), idle"]), numbers(rows["… most"]), strict=True
    ):
        assert 0 < idle <= most < 100
    assert min(numbers(rows["start to ready, nothing changed"])) > 0


def test_reloads_pile_processes_up_where_the_sidecar_has_one(tmp_path: Path) -> None:
    rows = rows_of("zero_loss", tmp_path)
    _, sidecar, reload, _ = numbers(rows["reloads"])
    assert sidecar == 0 < reload
    _, sidecar, reload, _ = numbers(rows["HAProxy processes, most"])
    assert sidecar == 1 < reload
    assert numbers(rows["… led to a server of another port"])[:2] == [0, 0]


def test_every_attack_is_carried_out(tmp_path: Path) -> None:
    rows = rows_of("hostile", tmp_path)
    published = [cells[-1] for label, cells in rows.items() if not label.startswith("quiet")]
    assert len(published) == 6
    assert min(numbers(published)) > 0


def test_the_limits_bench_fills_a_port(tmp_path: Path) -> None:
    rows = rows_of("limits", tmp_path)
    assert len(rows) == 3
    assert min(numbers(rows["served, with limits"])) > 0


def test_memory_grows_with_the_slots(tmp_path: Path) -> None:
    rows = rows_of("memory", tmp_path)
    few, many = (numbers(rows[size])[0] for size in ("100 x 6", "100 x 16"))
    assert 0 < few < many


def test_every_request_is_answered_and_every_change_seen(tmp_path: Path) -> None:
    rows = rows_of("web_routes", tmp_path)
    # An answer that is not 200, or does not come, ends the bench.
    assert {"static, one Route", "1 Routes by host", "20 Routes by host"} <= rows.keys()
    assert numbers(rows["changing commands of a replaced endpoint"]) == [4.0, 4.0]
    new = numbers(rows["changing commands of a new Route"])
    # Two addresses, two that become ready, two entries, its name for the log, that it has no flags;
    # never more for more Routes.
    assert new == [8.0, 8.0]


#: What both print: all is well; three of five answers are 503, or none comes; nobody is there.
WRK = [
    ("  1802 requests in 3.00s, 300.20KB read\nRequests/sec:    600.11\n", (1802, 0)),
    ("  14 requests in 1.00s, 685.00B read\n  Non-2xx or 3xx responses: 9\n", (14, 9)),
    (
        "  700 requests in 9.00s\n  Socket errors: connect 1, read 20, write 300, timeout 4000\n",
        (700, 4321),
    ),
    ("unable to connect to 127.0.0.1:8081 Connection refused\n", None),
]
_SAID = "requests: {} total, {} started, {} done, {} succeeded, {} failed, {} errored, 0 timeout\n"
H2LOAD = [
    (_SAID.format(1500, 1500, 1500, 1500, 0, 0), (1500, 0)),
    (_SAID.format(36, 38, 36, 12, 24, 0), (36, 24)),
    (_SAID.format(40, 0, 0, 0, 40, 40), (40, 40)),
    ("could not resolve\n", None),
]


@pytest.mark.parametrize(
    ("reader", "said", "figures"),
    [
        *(("read_wrk", *case) for case in WRK),
        *(("read_h2load", *case) for case in H2LOAD),
    ],
)
def test_what_clients_print_is_understood(
    monkeypatch: pytest.MonkeyPatch, reader: str, said: str, figures: tuple[int, int] | None
) -> None:
    monkeypatch.syspath_prepend(ROOT / "bench")
    read = runpy.run_path(str(ROOT / "bench/real_clients.py"))[reader]
    if figures:
        assert read(f"before\n{said}after\n") == figures
    else:
        with pytest.raises(SystemExit, match="said:"):
            read(said)


def test_clients_that_others_wrote_notice_nothing(tmp_path: Path) -> None:
    rows = rows_of("real_clients", tmp_path)
    assert all(int(cell.replace(",", "")) > 100 for cell in rows["requests"])
    assert rows["… failed"] == ["0", "0"]


def test_every_renewed_certificate_is_served(tmp_path: Path) -> None:
    rows = rows_of("certificates", tmp_path)
    # One that is not shown in time, or a request that fails, ends the bench.
    times = numbers(rows["certificate renewed → served, p50"])
    assert len(times) == 2
    assert all(seconds > 0 for seconds in times)


def test_every_request_of_a_route_with_annotations_is_answered(tmp_path: Path) -> None:
    # An answer that is not 200, or does not come, ends the bench.
    assert {"none", "ip_allowlist", "all of them"} <= rows_of("policies", tmp_path).keys()


def test_a_file_without_a_place_for_the_tables_is_left_alone(tmp_path: Path) -> None:
    figures = tmp_path / "figures.md"
    figures.write_text("# Figures\n<!-- bench: churn -->\n")
    done = run_bench("churn", figures)
    assert done.returncode == 1
    assert "there must be one <!-- bench: churn --> … <!-- end -->" in done.stderr
    assert figures.read_text() == "# Figures\n<!-- bench: churn -->\n"


def test_the_bench_of_clients_of_ports_refuses_some(tmp_path: Path) -> None:
    # So few connections may take less than the clock of a process shows.
    rows = rows_of("port_clients", tmp_path)
    assert len(rows) == 7
    assert "refused by a list" in rows
