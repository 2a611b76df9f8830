"""Where the chaos suite kills a hook, as read from a trace of strace's."""

from __future__ import annotations

from tests.chaos.tracing import places

HOOK = "7"


def change(call: str, said: str) -> str:
    return f"{HOOK}    {call}({said}) = 0"


def named(*lines: str) -> list[str]:
    return [place.what.partition(" ")[2] for place in places("\n".join(lines))]


def test_each_change_is_a_place_and_what_changed_nothing_is_none() -> None:
    found = places(
        "\n".join(
            [
                change("mkdir", '"/etc/concourse", 0755'),
                f'{HOOK}    mkdir("/etc/concourse", 0755) = -1 EEXIST (File exists)',
                change("mkdir", '"/var/lib/juju/x", 0755'),
                change("mkdir", '"/etc/concourse/gpu", 0755'),
            ]
        )
    )
    assert [(place.number, place.call, place.nth) for place in found] == [
        (1, "mkdir", 1),
        (2, "mkdir", 4),
    ]


def test_of_many_writes_to_one_file_three_are_places() -> None:
    lines = [change("write", f'4</etc/concourse/a>, "{number}", 1') for number in range(9)]
    found = named(*lines, change("unlink", '"/etc/concourse/b"'))
    assert [text.split('"')[1] for text in found[:3]] == ["0", "4", "8"]
    assert found[3] == 'unlink("/etc/concourse/b")'
    assert len(found) == 4


def test_of_a_folder_with_a_passing_name_five_are_places_its_first_and_last_among_them() -> None:
    passing = "/opt/concourse-releases/.8.3.0.0a1b2c3d.tmp"
    inside = [
        change("mkdir", f'"{passing}", 0755'),
        *(change("write", f'4<{passing}/{number}>, "x", 1') for number in range(40)),
        *(change("unlinkat", f'5<{passing}/bin>, "{number}", 0') for number in range(40)),
        change("rename", f'"{passing}", "/opt/concourse-releases/8.3.0"'),
    ]
    found = named(change("mkdir", '"/opt", 0755'), *inside, change("mkdir", '"/srv", 0755'))
    assert len(found) == 1 + 5 + 1
    assert found[1] == f'mkdir("{passing}", 0755)'
    assert found[5] == f'rename("{passing}", "/opt/concourse-releases/8.3.0")'
