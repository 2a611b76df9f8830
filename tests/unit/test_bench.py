"""The bench's figures, table, plot, and what it reads of a trace."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from bench import goals, spec, table
from bench.deployed import commands
from bench.figures import Goal, Row, compare, judge, quartiles
from bench.hooks import loud
from bench.joins import key
from bench.plot import Bar, Panel, svg
from bench.report import picture
from concourse.authorized import is_whole_key

KEYS = {"name", "base", "ours_ms", "base_ms", "overhead_ms", "ratio", "goal", "met"}


def row(*ours: float, base: tuple[float, ...] = (10.0, 10.0, 10.0), group: str = "") -> Row:
    return compare("a call", "runc", ours, base, group=group)


def test_a_row_has_the_medians_and_the_quartiles_of_the_differences() -> None:
    found = compare("a", "b", [11.0, 14.0, 12.0, 13.0, 90.0], [10.0, 10.0, 10.0, 10.0, 10.0])
    assert (found.ours_ms, found.base_ms, found.overhead_ms) == (13.0, 10.0, 3.0)
    assert found.spread_ms == (2.0, 4.0)
    assert (found.ratio, found.rounds) == (1.3, 5)


def test_the_overhead_is_that_of_rounds_and_not_of_medians() -> None:
    """A machine that gets slower meanwhile moves both alike."""
    found = compare("a", "b", [11.0, 21.0, 41.0], [10.0, 20.0, 40.0])
    assert (found.overhead_ms, found.spread_ms) == (1.0, (1.0, 1.0))


def test_one_round_is_its_own_spread() -> None:
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)


@pytest.mark.parametrize(("ours", "base"), [([], []), ([1.0], [1.0, 2.0])])
def test_series_that_are_no_pairs_are_no_figure(ours: list[float], base: list[float]) -> None:
    with pytest.raises(ValueError, match=r"nothing was measured|zip"):
        compare("a", "b", ours, base)


@pytest.mark.parametrize(
    ("ours", "goal", "met"),
    [
        pytest.param(11.0, goals.PASS, True, id="just held"),
        pytest.param(11.1, goals.PASS, False, id="not held"),
        pytest.param(12.5, goals.HOOK, True, id="a ratio just held"),
        pytest.param(12.6, goals.HOOK, False, id="a ratio not held"),
    ],
)
def test_a_goal_is_held_or_not(ours: float, goal: Goal, met: bool) -> None:
    judged = judge(row(ours, ours, ours), goal)
    assert (judged.goal, judged.met) == (goal.text, met)


def test_what_has_to_hold_beside_the_number_counts() -> None:
    assert judge(row(10.0, 10.0, 10.0), goals.HOOK, besides=False).met is False


@pytest.mark.parametrize(
    ("other", "met", "note"),
    [
        (20.0, True, "15% of 20.0 ms"),
        (19.0, False, "16% of 19.0 ms"),
        (-1.0, False, "the other has no overhead"),
    ],
)
def test_a_share_is_of_another_overhead(other: float, met: bool, note: str) -> None:
    judged = judge(row(13.0, 13.0, 13.0), goals.LIFE, other)
    assert (judged.met, judged.note) == (met, note)


def test_a_row_in_the_file_has_the_keys_that_readers_rely_on() -> None:
    stored = json.loads(json.dumps(judge(row(10.12345, 10.2, 10.3), goals.PASS).as_json()))
    assert set(stored) >= KEYS
    assert stored["ours_ms"] == 10.2
    assert stored["spread_ms"] == [0.162, 0.25]
    assert stored["met"] is True


def test_the_table_has_a_line_a_row_and_a_gap_between_groups() -> None:
    rows = [judge(row(10.5, 10.5, 10.5, group="one"), goals.PASS), row(200, 200, 200, group="two")]
    head, rule, first, gap, second = table.screen(rows).splitlines()
    assert head.split()[0] == "what"
    assert set(rule) <= {"-", " "}
    assert first.split("  ")[0] == "a call"
    assert first.endswith("≤ 1 ms  yes")
    assert gap == ""
    assert "190 (190 to 190)" in second


def test_the_table_on_a_page_is_markdown() -> None:
    lines = table.markdown([judge(row(12.0, 12.0, 12.0), goals.PASS)]).splitlines()
    assert lines[1] == "| --- | --- | --: | --: | --: | --: | --- | --- |"
    assert lines[2] == (
        "| a call | runc | 12.0 | 10.0 | 2.00 (2.00 to 2.00) | 1.20 | ≤ 1 ms | no |"
    )


def test_the_plot_is_an_image_with_a_bar_each_on_one_scale() -> None:
    slow, fast = Bar("theirs <&>", 40.0, (35.0, 50.0)), Bar("ours", 4.0, (-1.0, 5.0), ours=True)
    root = ElementTree.fromstring(svg("A title", [Panel("one", [slow]), Panel("two", [fast])]))
    space = "{http://www.w3.org/2000/svg}"
    widths = [
        float(each.attrib["width"]) for each in root.iter(f"{space}rect") if "x" in each.attrib
    ]
    assert widths[0] == pytest.approx(10 * widths[1], rel=0.01)
    said = [each.text for each in root.iter(f"{space}text")]
    assert {"A title", "one", "two", "theirs <&>", "40.0 ms", "4.0 ms"} <= set(said)


def test_the_plot_shows_lives_one_at_a_time() -> None:
    rows = [
        compare("life of a GPU task: the mission's wrapper", "x", [9.0], [1.0], group="task 1"),
        compare("life of a GPU task: this charm, shared", "x", [2.0], [1.0], group="task 1"),
        compare("life, 8 at once: this charm, shared", "x", [2.0], [1.0], group="task 8"),
    ]
    drawn = picture(rows, "a machine")
    assert drawn.count("<path") == 2
    assert "this charm, shared" in drawn
    assert "without a GPU" not in drawn


TRACE = """\
10 execve("/x/dispatch", ["/x/dispatch"], 0x7ffd /* 16 vars */) = 0
11 execve("/usr/bin/dpkg-query", ["/usr/bin/dpkg-query", "-W", "-f", "a\\tb"], 0x1 /* 3 */) = 0
12 execve("/nowhere/python3", ["python3"], 0x1 /* 3 vars */) = -1 ENOENT (No such file)
13 execve("/usr/bin/systemctl", ["/usr/bin/systemctl", "show", "x"], 0x1 /* 3 */ <unfinished ...>
14 execve("/usr/bin/true", ["true"], 0x1 /* 3 vars */) = 0
13 <... execve resumed>)                   = 0
11 +++ exited with 0 +++
"""


def test_a_trace_names_the_programs_that_were_started() -> None:
    assert [argv[0] for argv in commands(TRACE)] == [
        "/x/dispatch",
        "/usr/bin/dpkg-query",
        "/usr/bin/true",
        "/usr/bin/systemctl",
    ]
    assert commands(TRACE)[3] == ["/usr/bin/systemctl", "show", "x"]


def test_apt_and_restarts_are_found_among_them() -> None:
    quiet = [["/usr/bin/dpkg-query", "-W"], ["/usr/bin/systemctl", "show", "concourse-worker"]]
    assert loud(quiet) == []
    apt, restart = ["/usr/bin/apt-get", "update"], ["/bin/systemctl", "restart", "--no-block", "x"]
    assert loud([*quiet, apt, restart]) == ["apt-get update", "systemctl restart --no-block"]


@pytest.mark.parametrize("kind", spec.KINDS)
def test_a_spec_is_told_by_its_mounts_as_concourse_tells_it(kind: str) -> None:
    built = spec.build(kind, {"defaultAction": "SCMP_ACT_ERRNO"})
    where = [each["destination"] for each in built["mounts"]]
    assert [each for each in where if each.startswith("/tmp/build")] == list(spec.KINDS[kind])
    assert built["linux"]["seccomp"]


def test_the_crowds_keys_are_keys() -> None:
    assert is_whole_key(key())
