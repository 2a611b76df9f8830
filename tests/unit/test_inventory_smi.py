"""What nvidia-smi says or does: GPUs, MIG devices, CUDA's version; failures, silence, garbage."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu import smi
from gpu.inventory import Mig, cuda_version, look
from tests.unit.gpu_roots import VERSION, Root, gpu_uuid, mig_uuid, row

# --- GPUs ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "mib"),
    [
        ("81559", 81559),
        ("[N/A]", None),
        ("[Not Supported]", None),
        ("[Unknown Error]", None),
        ("-1", None),
        ("1e9", None),
        ("٣", None),
        ("9" * 40, None),
    ],
)
def test_smi_memory(root: Root, memory: str, mib: int | None) -> None:
    root.worker().smi(row(0, memory=memory))
    assert look(root.layout).gpus[0].memory_mib == mib


def test_smi_warnings_among_the_rows_are_no_rows(root: Root) -> None:
    root.worker(2).smi("WARNING: something, with, many, commas, in, it, ok", row(0), "", row(1))
    seen = look(root.layout)
    assert len(seen.gpus) == 2
    assert seen.smi_error.startswith("WARNING: something")


def test_smi_gpus_come_by_index(root: Root) -> None:
    root.worker(3).smi(row(2), row(0), row(1))
    assert [gpu.index for gpu in look(root.layout).gpus] == [0, 1, 2]


def test_smi_names_may_hold_commas(root: Root) -> None:
    root.worker().smi(f"0, {gpu_uuid(0)}, A, B and C, 00000000:01:00.0, 1, {VERSION}, [N/A]")
    assert look(root.layout).gpus[0].name == "A, B and C"


@pytest.mark.parametrize(
    "line",
    [
        "1, [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], [N/A]",
        "1, [Unknown Error], NVIDIA H100, 00000000:02:00.0, 81559, 580.95.05, [N/A]",
        f"1, {gpu_uuid(1)}, NVIDIA H100, 00000000:02:00.0, [GPU is lost], 580.95.05, [N/A]",
        f"1, {gpu_uuid(1)}, H100, 00000000:02:00.0, [GPU requires reset], 580.95.05, [N/A]",
        "1, GPU-short, NVIDIA H100, 00000000:02:00.0, 81559, 580.95.05, [N/A]",
    ],
)
def test_smi_tells_lost_gpus_from_those_that_answer(root: Root, line: str) -> None:
    root.worker(2).smi(row(0), line)
    seen = look(root.layout)
    assert ([gpu.index for gpu in seen.gpus], seen.lost) == ([0], ("GPU 1",))


def test_smi_inforom_status_is_a_warning(root: Root) -> None:
    root.worker().smi(row(0), "WARNING: infoROM is corrupted at gpu 0000:01:00.0", status=14)
    seen = look(root.layout)
    assert (seen.smi_code, len(seen.gpus)) == (14, 1)


@pytest.mark.parametrize("status", [4, 6, 8, 9, 10, 12, 13, 15, 18, 255])
def test_smi_failures_leave_status_and_words(root: Root, status: int) -> None:
    root.worker().smi(status=status, stderr="It\tdid\x1b[31m not\nwork\n")
    seen = look(root.layout)
    assert (seen.smi_code, seen.gpus, seen.smi_error) == (status, (), "It did [31m not")


def test_smi_failing_silently_leaves_its_status(root: Root) -> None:
    root.worker().smi(status=3)
    assert look(root.layout).smi_error == "status 3"


def test_smi_of_an_old_driver_is_asked_again_without_the_mig_field(root: Root) -> None:
    root.worker().smi(
        row(0).rpartition(",")[0],
        extra='case "$1" in *mig.mode*) echo "Field mig.mode.current is not valid"; exit 2;; esac',
    )
    assert [gpu.uuid for gpu in look(root.layout).gpus] == [gpu_uuid(0)]
    assert len(root.smi_calls()) == 2


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("exec sleep 60", id="the program itself"),
        pytest.param("trap '' TERM INT HUP; sleep 60 & wait", id="a child, signals ignored"),
        pytest.param("while :; do :; done", id="busily"),
    ],
)
def test_smi_that_hangs_costs_its_limit_once(root: Root, script: str) -> None:
    root.worker().smi(row(0, mig="Enabled"), extra=script)
    start = time.monotonic()
    seen = look(root.layout, timeout=0.5)
    assert time.monotonic() - start < 3
    assert (seen.smi_hung, seen.smi_code, seen.gpus) == (True, None, ())
    assert len(root.smi_calls()) == 1


@pytest.mark.parametrize(
    ("name", "state", "pending", "asked"),
    [
        pytest.param("nvidia-smi", "D (disk sleep)", "0000000000000100", 0, id="held"),
        pytest.param("nvidia-smi", "D (disk sleep)", "0000000000000000", 1, id="at work"),
        pytest.param("nvidia-smi", "R (running)", "0000000000000100", 1, id="ending"),
        pytest.param("rsync", "D (disk sleep)", "0000000000000100", 1, id="another program"),
    ],
)
def test_no_further_smi_is_started_while_the_kernel_holds_one_that_was_killed(
    root: Root, name: str, state: str, pending: str, asked: int
) -> None:
    root.worker().write("/proc/4711/comm", f"{name}\n")
    status = f"Name:\t{name}\nState:\t{state}\nSigPnd:\t{0:016x}\nShdPnd:\t{pending}\n"
    root.write("/proc/4711/status", status)
    seen = look(root.layout)
    assert len(root.smi_calls()) == asked
    assert seen.smi_hung is (not asked)
    assert bool(cuda_version(root.layout)) is False
    assert len(root.smi_calls()) == 2 * asked


def test_smi_that_hangs_over_mig_devices_has_hung(root: Root) -> None:
    root.worker().smi(row(0, mig="Enabled"), extra='[ "$1" != -L ] || exec sleep 60')
    assert look(root.layout, timeout=0.5).smi_hung is True


@pytest.mark.parametrize(
    ("content", "mode", "present"),
    [
        pytest.param(b"\x7fELF no program at all", 0o755, True, id="cannot be started"),
        pytest.param(b"#!/bin/sh\n", 0o644, False, id="not executable"),
    ],
)
def test_smi_that_does_not_start(root: Root, content: bytes, mode: int, present: bool) -> None:
    root.worker().write("/usr/bin/nvidia-smi", content, mode)
    seen = look(root.layout)
    assert (seen.smi_present, seen.smi_code, seen.gpus) == (present, None, ())
    assert bool(seen.smi_error) is present


def test_a_folder_called_nvidia_smi_is_no_program(root: Root) -> None:
    root.worker()
    root.layout.at("/usr/bin/nvidia-smi").unlink()
    root.layout.at("/usr/bin/nvidia-smi").mkdir()
    assert look(root.layout).smi_present is False


# --- MIG -------------------------------------------------------------------------------


LISTING = (
    f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {gpu_uuid(0)})\n"
    f"  MIG 3g.20gb     Device  0: (UUID: {mig_uuid(0)})\n"
    f"  MIG 1c.3g.20gb  Device  1: (UUID: MIG-{gpu_uuid(0)}/1/0)\n"
    "  MIG 1g.5gb      Device  2: (UUID: nonsense)\n"
    f"GPU 1: NVIDIA A100-SXM4-40GB (UUID: {gpu_uuid(1)})\n"
)


def test_mig_devices_belong_to_the_gpu_above_them(root: Root) -> None:
    root.worker(2).smi(row(0, mig="Enabled"), row(1, mig="Disabled"), listing=LISTING)
    first, second = look(root.layout).gpus
    assert first.mig == (
        Mig("0:0", mig_uuid(0), "3g.20gb"),
        Mig("0:1", f"MIG-{gpu_uuid(0)}/1/0", "1c.3g.20gb"),
    )
    assert (first.mig_on, second.mig_on, second.mig) == (True, False, ())


def test_a_mig_device_of_any_name_is_short_and_printable(root: Root) -> None:
    odd = LISTING.replace("3g.20gb ", "\u202e" + "g" * 999).replace("  1:", "  9999:")
    root.worker().smi(row(0, mig="Enabled"), listing=odd)
    (mig,) = look(root.layout).gpus[0].mig
    assert mig == Mig("0:0", mig_uuid(0), "g" * 120)


def test_mig_off_needs_no_listing(root: Root) -> None:
    root.worker().smi(row(0, mig="Disabled"), listing=LISTING)
    assert look(root.layout).gpus[0].mig == ()
    assert len(root.smi_calls()) == 1


# --- CUDA ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "version"),
    [
        ("| NVIDIA-SMI 580.95.05   Driver Version: 580.95.05   CUDA Version: 13.0     |", "13.0"),
        ("| NVIDIA-SMI 595.10   KMD Version: 595.10   CUDA UMD Version: 13.2    |", "13.2"),
        ("| NVIDIA-SMI 580.95.05   Driver Version: 580.95.05   CUDA Version: N/A      |", ""),
        ("garbage", ""),
    ],
)
def test_cuda_version(root: Root, head: str, version: str) -> None:
    root.smi(plain=f"Thu Jan  1\n+----+\n{head}\n")
    assert cuda_version(root.layout) == version


def test_cuda_version_is_unknown_without_or_with_a_hanging_nvidia_smi(root: Root) -> None:
    assert cuda_version(root.layout) == ""
    root.smi(extra="exec sleep 60")
    assert cuda_version(root.layout, timeout=0.3) == ""


# --- garbage ---------------------------------------------------------------------------


rows = st.lists(
    st.one_of(
        st.just(row(0)),
        st.just(row(1, mig="Enabled")),
        st.lists(
            st.one_of(st.text(max_size=12), st.sampled_from([gpu_uuid(3), "0", "[N/A]", "1"])),
            max_size=9,
        ).map(", ".join),
        st.text(max_size=80),
        st.binary(max_size=80).map(lambda data: data.decode(errors="replace")),
    ),
    max_size=5,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    lines=rows,
    listing=st.one_of(st.just(LISTING), st.text(max_size=80)),
    status=st.sampled_from([0, 2, 14, 255]),
)
def test_smi_garbage_never_becomes_a_gpu(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], listing: str, status: int
) -> None:
    root = Root(tmp_path_factory.mktemp("root"))
    root.smi(status=status, listing=listing.encode("utf-8", "replace").decode())
    root.write("/smi/rows", "\n".join(lines).encode("utf-8", "replace"))
    answer = smi.ask(root.layout, timeout=10)
    known = {gpu_uuid(0), gpu_uuid(1), gpu_uuid(3)}
    assert {gpu.uuid for gpu in answer.gpus} <= known
    assert answer.error.isprintable()
    assert len(answer.error) <= 120
    assert all(mig.uuid.startswith("MIG-") for gpu in answer.gpus for mig in gpu.mig)
