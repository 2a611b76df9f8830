"""What the wrapper makes of config.json itself: shapes of env, doubt, files that aren't specs."""

from __future__ import annotations

import json
import os

import pytest

from tests.unit.wrapper_rig import (
    BOTH,
    CAPABILITIES,
    DEVICES,
    GPU_A,
    NVIDIA,
    REFUSED,
    RUNC,
    TASK,
    Rig,
    spec,
)


def test_only_env_changes_and_the_file_stays_the_same_file(rig: Rig) -> None:
    mounts = f'"mounts":[{{"source":"\u00e9\ud7ff","destination":"{TASK}"}}],"linux":null'
    env = f'[ "A=\\u003c" , "{DEVICES}=0","B=\\""\n]\t'
    text = '{ "a":1e400 ,"process":{"env":' + env + ',"x":[{}]} ,' + mounts + "}\n"
    rig.spec.write_text(text)
    rig.spec.chmod(0o640)
    os.chown(rig.spec, 1234, 4321)
    before = os.stat(rig.spec)
    done = rig.create(text)

    after = os.stat(rig.spec)
    assert (after.st_ino, after.st_mode, after.st_uid, after.st_gid) == (
        *(before.st_ino, before.st_mode),
        *(1234, 4321),
    )
    assert sorted(os.listdir(rig.bundle)) == ["config.json", "gpu-lease"]
    new = f'"{DEVICES}={GPU_A}","{CAPABILITIES}=all"'
    assert done.config.decode() == text.replace(f'"{DEVICES}=0",', "").replace(
        '"B=\\""', f'"B=\\"",{new}'
    )


@pytest.mark.parametrize(
    ("env", "becomes"),
    [
        ('"env":[]', '"env":[NEW]'),
        ('"env":[ ]', '"env":[NEW ]'),
        ('"env": null ,"z":1', '"env": [NEW] ,"z":1'),
        ('"z":1,"env":null', '"z":1,"env":[NEW]'),
        ('"z":1', '"env":[NEW],"z":1'),
        ("", '"env":[NEW]'),
        ('"env":["A=1","NVIDIA_GDS=1"]', '"env":["A=1",NEW]'),
        ('"env":["NVIDIA_GDS=1" , "A=1"]', '"env":["A=1",NEW]'),
        ('"env":[ "NVIDIA_GDS=1","NVIDIA_GDS=2" ]', '"env":[ NEW ]'),
        ('"env":["NVIDIA_GDS=1","A","NVIDIA_GDS=2"]', '"env":["A",NEW]'),
    ],
)
def test_env_of_every_shape(rig: Rig, env: str, becomes: str) -> None:
    frame = '{"process":{%s},"mounts":[{"destination":"' + TASK + '"}]}'
    done = rig.create(frame % env)

    assert done.status == NVIDIA
    new = f'"{DEVICES}={BOTH}","{CAPABILITIES}=all"'
    assert done.config.decode() == frame % becomes.replace("NEW", new)


TASK_FRAME = '{"process":{"env":[%s]},"mounts":[{"destination":"' + TASK + '"}]%s}'
DOUBTFUL = {
    "two processes": TASK_FRAME % ("", ',"process":{"env":["A=1"]}'),
    "another case": TASK_FRAME % ("", ',"Process":{"env":["A=1"]}'),
    "the long s": TASK_FRAME % ("", ',"proce\u017f\u017f":{"env":["A=1"]}'),
    "an escaped key": TASK_FRAME % ("", ',"\\u0070rocess":{"env":["A=1"]}'),
    "two lists of mounts": TASK_FRAME % ("", ',"mounts":[{"destination":"/proc"}]'),
    "a second env": TASK_FRAME.replace('"env"', '"ENV":["A=1"],"env"') % ("", ""),
    "a second destination": TASK_FRAME.replace('"}]', '","Destination":"/tmp/build/get"}]')
    % ("", ""),
    "an escaped get": TASK_FRAME.replace('"}]', '"},{"destination":"\\/tmp/build/get"}]')
    % ("", ""),
    "an escaped put": TASK_FRAME.replace('"}]', '"},{"destination":"/tmp/build/p\\u0075t"}]')
    % ("", ""),
    "an escaped variable": TASK_FRAME % ('"NVIDIA\\u005fVISIBLE_DEVICES=all"', ""),
    "an escaped =": TASK_FRAME % ('"NVIDIA_GDS\\u003denabled"', ""),
    "an escape that is none": TASK_FRAME % (r'"NVIDIA_GDS=\["', ""),
    "half an escape": TASK_FRAME % (r'"NVIDIA_VISIBLE_DEVICES=\u12"', ""),
    "a raw line break": TASK_FRAME % ('"NVIDIA_GDS=\n"', ""),
    "a raw zero": TASK_FRAME % ('"NVIDIA_DRIVER_CAPABILITIES=\0"', ""),
    "a number in env": TASK_FRAME % ('1,"A=1"', ""),
    "null in env": TASK_FRAME % ('"A=1",null', ""),
    "a list in env": TASK_FRAME % ('["NVIDIA_GDS=1"]', ""),
    "env is a string": TASK_FRAME.replace("[%s]", '"%s"') % ("A=1", ""),
    "env is an object": TASK_FRAME.replace("[%s]", "{%s}") % ('"A":"1"', ""),
    "no process": '{"mounts":[{"destination":"' + TASK + '"}]}',
    "process is null": '{"process":null,"mounts":[{"destination":"' + TASK + '"}]}',
    "mounts in mounts": TASK_FRAME.replace('"}]', '"},"x"]') % ("", ""),
    "two texts": TASK_FRAME % ("", "") * 2,
    "text behind it": TASK_FRAME % ("", "") + ' "',
    "a quote behind it": TASK_FRAME % ("", "") + '"',
    "a comma behind it": TASK_FRAME % ("", "") + ",",
    "cut short": (TASK_FRAME % ("", ""))[:-1],
    "cut in a string": TASK_FRAME % ("", ',"x":"y'),
    "a bracket too many": TASK_FRAME % ("", "}"),
    "brackets of two kinds": TASK_FRAME % ("", ',"x":[}'),
    "a byte order mark": "\ufeff" + TASK_FRAME % ("", ""),
    "two entries without a comma": TASK_FRAME % ('"A=1" "B=1"', ""),
    "a comma too many": TASK_FRAME % ('"A=1",', ""),
    "a control character": TASK_FRAME % ("", ',"x":"\x01"'),
    "a list around it": "[" + TASK_FRAME % ("", "") + "]",
}


@pytest.mark.parametrize("text", DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_a_task_in_doubt_is_refused_and_left_alone(rig: Rig, text: str) -> None:
    done = rig.create(text)

    assert done.config.decode() == text
    if text.startswith("["):
        assert done.status == RUNC
        return
    assert done.status == REFUSED
    assert done.message == "config.json of this task cannot be read without doubt"
    plain = rig.create(text.replace(TASK, "/srv"))
    assert (plain.status, plain.config.decode()) == (RUNC, text.replace(TASK, "/srv"))


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"', '""', "\\", "\x00", "not json"])
def test_what_is_no_spec_is_left_to_runc(rig: Rig, text: str) -> None:
    done = rig.create(text)
    assert (done.status, done.config.decode()) == (RUNC, text)


def test_no_config_at_all_is_left_to_runc(rig: Rig) -> None:
    assert rig.call("create", "--bundle", str(rig.bundle), "id").status == RUNC
    assert rig.call("create", "--bundle", "/nowhere", "id").status == RUNC


def test_a_linked_config_is_not_written_through(rig: Rig) -> None:
    target = rig.root / "target.json"
    target.write_text(json.dumps(spec([])))
    before = target.read_text()
    rig.spec.symlink_to(target)

    done = rig.call("create", "--bundle", str(rig.bundle), "id")
    assert done.message == "config.json of this task is a symbolic link"
    assert target.read_text() == before


def test_a_config_that_cannot_be_written_is_refused(rig: Rig) -> None:
    """The file is bigger than what may be written: it is truncated, so the create has to fail."""
    big = spec([f"A={'x' * 200000}"])
    script = rig.root / "limited"
    script.write_text(f'#!/bin/sh\nulimit -f 64\nexec {" ".join(rig.shell)} {rig.runc} "$@"\n')
    rig.spec.write_text(json.dumps(big))
    done = rig.execute(script, "--log", str(rig.log), "create", "-b", str(rig.bundle), "id")

    assert done.status == REFUSED
    assert done.argv == ()
    assert done.message == "config.json of this container could not be judged or written"


def test_a_small_config_that_cannot_be_written_is_refused_without_another_look(rig: Rig) -> None:
    """It fits awk's buffer, so that only the last flush fails, and leaves an empty file."""
    awk = rig.root / "awk/awk"
    real, calls = awk.resolve(), rig.root / "calls"
    awk.unlink()
    awk.write_text(f'#!/bin/sh\necho >>{calls}\ntrap "" XFSZ\nulimit -f 0\nexec {real} "$@"\n')
    awk.chmod(0o755)
    done = rig.create(spec([f"{DEVICES}=0"]))

    assert (done.status, done.argv, done.config) == (REFUSED, (), b"")
    # An awk either ends by itself then or tells the program.
    assert done.message in (
        "config.json of this container could not be judged or written",
        "config.json of this task could not be written",
    )
    assert len(calls.read_text().splitlines()) == 1


def test_an_awk_that_tells_of_a_failed_write_is_not_asked_again(rig: Rig) -> None:
    awk = rig.root / "awk/awk"
    real, config = awk.resolve(), rig.spec
    awk.unlink()
    awk.write_text(f'#!/bin/sh\n{real} "$@"\n: >{config}\nexit 13\n')
    awk.chmod(0o755)
    done = rig.create(spec([f"{DEVICES}=0"]))

    assert (done.status, done.argv) == (REFUSED, ())
    assert done.message == "config.json of this task could not be written"


def test_a_reason_that_is_lost_leaves_a_sentence_all_the_same(rig: Rig) -> None:
    awk = rig.root / "awk/awk"
    real, calls = awk.resolve(), rig.root / "calls"
    awk.unlink()
    awk.write_text(f'#!/bin/sh\n[ -e {calls} ] && exit 1\n: >{calls}\nexec {real} "$@"\n')
    awk.chmod(0o755)
    done = rig.create(spec([f"{DEVICES}=7"]))

    assert done.status == REFUSED
    assert done.message == "config.json of this container could not be judged or written"
