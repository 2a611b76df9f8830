from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concourse import authorized
from concourse.authorized import GRACE, authorised, is_whole_key
from concourse.paths import WebPaths
from host import Layout
from tests.unit.webs import Programs, blob, rsa_line

A, B, C = rsa_line(1), rsa_line(2), rsa_line(3)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    Programs(layout)
    return layout


def lines(layout: Layout) -> list[str]:
    return WebPaths(layout).authorized_keys.read_text().splitlines()[1:]


# --- who is let in ---------------------------------------------------------------------

names = st.sampled_from(["w-0", "w-1", "w-2", "w-3"])
times = st.floats(0, 4000)


@given(
    st.dictionaries(names, st.sampled_from([A, B])),
    st.dictionaries(names, st.tuples(st.sampled_from([B, C]), times)),
    times,
    st.sets(names),
)
def test_present_always_and_departed_for_a_while(
    present: dict[str, str],
    departed: dict[str, tuple[str, float]],
    now: float,
    unregistered: set[str],
) -> None:
    found = authorised(present, departed, now, unregistered)
    assert present.items() <= found.items()
    for name, (key, since) in departed.items():
        stays = name not in unregistered and now - since < GRACE
        assert (found.get(name) == key) or name in present or not stays
        if not stays:
            assert found.get(name) == present.get(name)
    assert set(found) <= set(present) | set(departed)


def test_who_joins_and_leaves(layout: Layout) -> None:
    assert authorized.ensure(layout, {"w-0": A, "w-1": f"{B} root@w-1\n"}, now=0).changed
    assert lines(layout) == [f"{A} w-0", f"{B} w-1"]
    assert not authorized.ensure(layout, {"w-1": B, "w-0": A}, now=10).changed
    left = authorized.ensure(layout, {"w-1": B}, now=100)
    assert (left.changed, left.leaving) == (False, ("w-0",))
    assert not authorized.ensure(layout, {"w-1": B}, now=100 + GRACE - 1).changed
    gone = authorized.ensure(layout, {"w-1": B}, now=100 + GRACE)
    assert (gone.changed, gone.leaving) == (True, ())
    assert lines(layout) == [f"{B} w-1"]
    assert not WebPaths(layout).departed.exists()


def test_who_has_unregistered_loses_the_key_at_once(layout: Layout) -> None:
    authorized.ensure(layout, {"w-0": A}, now=0)
    assert authorized.ensure(layout, {}, now=1).leaving == ("w-0",)
    assert authorized.ensure(layout, {}, now=2, unregistered={"w-0"}).changed
    assert lines(layout) == []


def test_who_comes_back_is_there_again(layout: Layout) -> None:
    authorized.ensure(layout, {"w-0": A}, now=0)
    authorized.ensure(layout, {}, now=1)
    assert authorized.ensure(layout, {"w-0": C}, now=2).leaving == ()
    assert lines(layout) == [f"{C} w-0"]
    assert authorized.ensure(layout, {"w-0": C}, now=5000).leaving == ()


def test_one_worker_more_or_less_without_knowing_the_others(layout: Layout) -> None:
    authorized.ensure(layout, {"w-0": A}, now=0)
    assert authorized.update(layout, joined={"w-1": B}, now=0).changed
    assert not authorized.update(layout, joined={"w-1": B}, now=0).changed
    assert lines(layout) == [f"{A} w-0", f"{B} w-1"]
    assert authorized.update(layout, left=("w-0", "never"), now=10).leaving == ("w-0",)
    assert authorized.update(layout, now=20).leaving == ("w-0",)
    assert authorized.update(layout, joined={"w-1": C}, now=30).leaving == ("w-0",)
    assert authorized.update(layout, now=10 + GRACE).changed
    assert lines(layout) == [f"{C} w-1"]


def test_a_clock_that_was_set_back_makes_no_key_stay_for_longer(layout: Layout) -> None:
    authorized.ensure(layout, {"w-0": A}, now=1_000_000)
    authorized.ensure(layout, {}, now=1_000_000)
    assert authorized.ensure(layout, {}, now=100).leaving == ("w-0",)
    assert authorized.ensure(layout, {}, now=100 + GRACE).leaving == ()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"w-0": 1}', '{"w-0": ["x", "y"]}'])
def test_a_damaged_memory_gives_those_that_left_their_time_once_more(
    layout: Layout, damage: str
) -> None:
    authorized.ensure(layout, {"w-0": A}, now=0)
    authorized.ensure(layout, {}, now=0)
    WebPaths(layout).departed.write_text(damage)
    assert authorized.ensure(layout, {}, now=5000).leaving == ("w-0",)
    assert authorized.ensure(layout, {}, now=5000 + GRACE).leaving == ()


def test_a_kill_between_memory_and_file_is_made_up_for(layout: Layout) -> None:
    authorized.ensure(layout, {"w-0": A, "w-1": B}, now=0)
    memory = WebPaths(layout).departed
    memory.write_text(json.dumps({"w-0": [A, 0]}))  # the file was not reached
    assert authorized.ensure(layout, {"w-1": B}, now=GRACE).changed
    assert lines(layout) == [f"{B} w-1"]


def test_the_file_is_the_webs_to_read_and_roots_to_write(layout: Layout) -> None:
    authorized.ensure(layout, {"w-0": A}, now=0)
    path = WebPaths(layout).authorized_keys
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.parent.stat().st_mode & 0o777 == 0o750


# --- keys ------------------------------------------------------------------------------

POINT = b"\x04" + bytes(64)


@pytest.mark.parametrize(
    "line",
    [
        A,
        f"{A} a comment of words",
        rsa_line(bits=1024),
        "ssh-ed25519 " + blob(b"ssh-ed25519", bytes(32)),
        "ecdsa-sha2-nistp256 " + blob(b"ecdsa-sha2-nistp256", b"nistp256", POINT),
    ],
)
def test_a_whole_key(line: str) -> None:
    assert is_whole_key(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "garbage",
        "ssh-rsa AAAA",
        A[: len(A) // 8 * 4],
        f"{A}\n{B}",
        f"{A}\r{B}",
        f"{A} \u2028{B}",
        f'command="x" {A}',
        f"# {A}",
        "ssh-dss " + blob(b"ssh-dss", b"x"),
        "ssh-rsa " + blob(b"ssh-rsa", b"\x01\x00\x01", b"\x00" + b"\xff" * 8),
        "ssh-rsa " + blob(b"ssh-rsa", b"\x02", b"\x00" + b"\xff" * 256),
        "ssh-rsa " + blob(b"ssh-rsa", b"\x01\x00\x01", b"\x00" + b"\xff" * 256, b"more"),
        "ssh-rsa " + blob(b"ssh-rsa", b"\x01\x00\x01", b"\x00" + b"\xff" * 4096),
        "ssh-ed25519 " + blob(b"ssh-ed25519", bytes(31)),
        "ssh-ed25519 " + blob(b"ssh-rsa", bytes(32)),
        "ecdsa-sha2-nistp256 " + blob(b"ecdsa-sha2-nistp256", b"nistp384", POINT),
        "ecdsa-sha2-nistp256 " + blob(b"ecdsa-sha2-nistp256", b"nistp256", b"\x02" + bytes(32)),
    ],
)
def test_what_is_no_whole_key_is_left_out_and_named(layout: Layout, line: str) -> None:
    assert not is_whole_key(line)
    found = authorized.ensure(layout, {"w-0": A, "bad": line}, now=0)
    assert found.refused == ("bad",)
    assert lines(layout) == [f"{A} w-0"]


@pytest.mark.parametrize("name", ["", "a b", "a\nssh-rsa x", "#", "-a", "../x", "x" * 200])
def test_what_is_no_name_is_left_out_and_shown(layout: Layout, name: str) -> None:
    found = authorized.ensure(layout, {name: A, "w-1": B}, now=0)
    assert found.refused == (repr(name[:40]),)
    assert lines(layout) == [f"{B} w-1"]


@given(st.dictionaries(st.text(max_size=20), st.one_of(st.text(max_size=200), st.just(A))))
def test_nothing_hostile_breaks_the_file(given_keys: dict[str, str]) -> None:
    good, refused = authorized._sorted_out(given_keys)
    assert len(good) + len(refused) == len(given_keys)
    assert all(line == A for line in good.values())
    assert all(name.isprintable() for name in refused)
