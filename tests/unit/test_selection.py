from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu.inventory import Gpu, GpuInventory, Mig
from gpu.selection import (
    CAPABILITIES,
    DeviceRequest,
    Selection,
    nothing_here,
    parse,
    parse_capabilities,
    parse_tags,
    select,
    tags,
)
from tests.unit.gpu_roots import gpu_uuid, mig_uuid

OLD_MIG = f"MIG-{gpu_uuid(1)}/7/0"


def machine(count: int) -> GpuInventory:
    return GpuInventory(gpus=tuple(Gpu(index, gpu_uuid(index)) for index in range(count)))


# GPU 0 whole, GPU 1 in two parts, GPU 2 in MIG mode without a part.
MIXED = GpuInventory(
    gpus=(
        Gpu(0, gpu_uuid(0), "NVIDIA A100"),
        Gpu(
            1,
            gpu_uuid(1),
            mig_on=True,
            mig=(Mig("1:0", mig_uuid(0), "3g.20gb"), Mig("1:1", OLD_MIG, "1g.5gb")),
        ),
        Gpu(2, gpu_uuid(2), mig_on=True),
    )
)


# --- gpu-device-ids ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        pytest.param("0", ("0",), id="one index"),
        pytest.param("0,2", ("0", "2"), id="two indices"),
        pytest.param(" 2 , 0 ", ("2", "0"), id="blanks around entries"),
        pytest.param("0,0,1,0", ("0", "1"), id="duplicates count once"),
        pytest.param("1:0", ("1:0",), id="a MIG device by number"),
        pytest.param(gpu_uuid(1), (gpu_uuid(1),), id="a GPU's UUID"),
        pytest.param(gpu_uuid(10).upper(), (gpu_uuid(10),), id="a UUID in capitals"),
        pytest.param(f"{gpu_uuid(1).lower()},{gpu_uuid(1)}", (gpu_uuid(1),), id="same, two cases"),
        pytest.param(mig_uuid(3).lower(), (mig_uuid(3),), id="a MIG device's UUID"),
        pytest.param(OLD_MIG.lower(), (OLD_MIG,), id="a MIG device's UUID, old form"),
    ],
)
def test_parse(value: str, wanted: tuple[str, ...]) -> None:
    assert parse(value) == DeviceRequest(everything=False, wanted=wanted)


@pytest.mark.parametrize("value", ["all", "ALL", " all "])
def test_parse_all(value: str) -> None:
    assert parse(value) == DeviceRequest()


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        pytest.param("", '""', id="empty"),
        pytest.param("none", "none", id="none"),
        pytest.param("all,0", "all,0", id="all and more"),
        pytest.param("0,,1", "0,,1", id="an empty entry"),
        pytest.param("0,", "0,", id="a comma at the end"),
        pytest.param("00", "00", id="a leading zero"),
        pytest.param("-1", "-1", id="a negative index"),
        pytest.param("1000", "1000", id="an index beyond any machine"),
        pytest.param("0 1", "0 1", id="blanks in place of commas"),
        pytest.param("0;1", "0;1", id="semicolons"),
        pytest.param("٣", "٣", id="digits of another script"),
        pytest.param("GPU-1234", "GPU-1234", id="a shortened UUID"),
        pytest.param("nvidia.com/gpu=0", "nvidia.com/gpu=0", id="a CDI name"),
        pytest.param("0\n1", "0?1", id="a new line"),
        pytest.param("0\t", "0?", id="a tab"),
        pytest.param("0\x00", "0?", id="a NUL"),
        pytest.param(gpu_uuid(0) + "\n", f"{gpu_uuid(0)[:31]}…", id="a UUID and a new line"),
        pytest.param("x" * 1000, "x" * 31 + "…", id="very long"),
    ],
)
def test_parse_refuses(value: str, quoted: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse(value)
    assert str(caught.value) == (
        f"gpu-device-ids={quoted} is no list of devices: use all, or indices, MIG ids (0:1) and "
        "full UUIDs, separated by commas"
    )
    assert len(str(caught.value)) <= 150


def test_parse_refuses_endless_lists() -> None:
    with pytest.raises(ValueError, match="gpu-device-ids=0,1,2"):
        parse(",".join(str(number) for number in range(500)))


# --- choosing ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "ids", "subset", "missing"),
    [
        pytest.param("all", ("0", "1", "2"), False, (), id="all"),
        pytest.param("0,1,2", ("0", "1", "2"), False, (), id="every one by index"),
        pytest.param("2,0", ("0", "2"), True, (), id="two, in the machine's order"),
        pytest.param(gpu_uuid(1), ("1",), True, (), id="one by UUID"),
        pytest.param(f"1,{gpu_uuid(1)}", ("1",), True, (), id="one, named twice"),
        pytest.param("0,7", ("0",), True, ("7",), id="only what is here"),
        pytest.param("7,8", (), True, ("7", "8"), id="nothing that is here"),
        pytest.param("0:0", (), True, ("0:0",), id="MIG device without MIG"),
    ],
)
def test_select(value: str, ids: tuple[str, ...], subset: bool, missing: tuple[str, ...]) -> None:
    chosen = select(machine(3), parse(value))
    assert tuple(device.id for device in chosen.chosen) == ids
    assert chosen.allowed == tuple(gpu_uuid(int(number)) for number in ids)
    assert (chosen.subset, chosen.missing) == (subset, missing)


def test_select_accepts_index_and_uuid_of_each() -> None:
    assert select(machine(2), parse("1")).spellings == (
        ("1", gpu_uuid(1)),
        (gpu_uuid(1), gpu_uuid(1)),
    )


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        pytest.param("all", ("0", "1:0", "1:1"), id="all: MIG devices in their GPU's place"),
        pytest.param("1", ("1:0", "1:1"), id="index of a GPU in MIG mode: all its parts"),
        pytest.param(gpu_uuid(1), ("1:0", "1:1"), id="UUID of a GPU in MIG mode: all its parts"),
        pytest.param("1:1", ("1:1",), id="one part by number"),
        pytest.param(OLD_MIG, ("1:1",), id="one part by UUID"),
        pytest.param("1,1:0", ("1:0", "1:1"), id="a GPU and its own part"),
        pytest.param("2", (), id="a GPU in MIG mode without a part"),
    ],
)
def test_select_mig(value: str, ids: tuple[str, ...]) -> None:
    chosen = select(MIXED, parse(value))
    assert tuple(device.id for device in chosen.chosen) == ids


def test_select_offers_no_spelling_for_a_gpu_in_mig_mode() -> None:
    assert select(MIXED, DeviceRequest()).spellings == (
        ("0", gpu_uuid(0)),
        (gpu_uuid(0), gpu_uuid(0)),
        ("1:0", mig_uuid(0)),
        (mig_uuid(0), mig_uuid(0)),
        ("1:1", OLD_MIG),
        (OLD_MIG, OLD_MIG),
    )


def test_select_on_a_machine_without_gpus() -> None:
    assert select(GpuInventory(), DeviceRequest()) == Selection()


@pytest.mark.parametrize(
    ("count", "value", "sentence"),
    [
        pytest.param(
            2,
            "5",
            "gpu-device-ids=5 names no GPU of this machine; here: 0 (GPU-00000000…), "
            "1 (GPU-00000001…)",
            id="two here",
        ),
        pytest.param(
            16,
            f"{gpu_uuid(99)},{gpu_uuid(98)}",
            f"gpu-device-ids={gpu_uuid(99)},GPU-00…"
            " names no GPU of this machine; here: 0 (GPU-00000000…), 1 (GPU-00000001…) and more",
            id="many here, a long request",
        ),
        pytest.param(
            0, "0", "gpu-device-ids=0 names no GPU of this machine: it has none", id="none here"
        ),
    ],
)
def test_nothing_here(count: int, value: str, sentence: str) -> None:
    assert nothing_here(machine(count), parse(value)) == sentence
    assert len(sentence) <= 150


# --- gpu-driver-capabilities ------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        ("all", "all"),
        (" ALL ", "all"),
        ("compute", "compute"),
        ("utility,compute", "compute,utility"),
        ("compute, compute ,utility", "compute,utility"),
        (",".join(reversed(CAPABILITIES)), ",".join(CAPABILITIES)),
    ],
)
def test_capabilities(value: str, normal: str) -> None:
    assert parse_capabilities(value) == normal


@pytest.mark.parametrize("value", ["", "none", "all,compute", "compute,", "compute utility", "a\n"])
def test_capabilities_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"^gpu-driver-capabilities=\S.*: use all, or a list"):
        parse_capabilities(value)


# --- gpu-worker-tags --------------------------------------------------------------------

ALL_OF_THREE = select(machine(3), DeviceRequest())
TWO_OF_THREE = select(machine(3), parse("0,2"))
ONE_OF_ONE = select(machine(1), parse("0"))
PARTS = select(MIXED, parse("1"))


@pytest.mark.parametrize(
    ("option", "selection", "mode", "expected"),
    [
        pytest.param(
            "auto", ALL_OF_THREE, "worker", ("gpu", "gpu-type=nvidia", "gpu-count=3"), id="all"
        ),
        pytest.param(
            "auto",
            TWO_OF_THREE,
            "worker",
            ("gpu", "gpu-type=nvidia", "gpu-count=2", "gpu-devices=0+2"),
            id="a subset",
        ),
        pytest.param(
            "auto",
            ONE_OF_ONE,
            "worker",
            ("gpu", "gpu-type=nvidia", "gpu-count=1"),
            id="a list that is everything is no subset",
        ),
        pytest.param(
            "auto",
            PARTS,
            "worker",
            ("gpu", "gpu-type=nvidia", "gpu-count=2", "gpu-devices=1:0+1:1"),
            id="MIG devices count each",
        ),
        pytest.param("auto", ALL_OF_THREE, "all", (), id="mode all"),
        pytest.param("auto", Selection(), "worker", (), id="no GPU, no tag"),
        pytest.param("none", ALL_OF_THREE, "worker", (), id="none"),
        pytest.param("a, b,a", ALL_OF_THREE, "worker", ("a", "b"), id="a list of one's own"),
        pytest.param("a", ALL_OF_THREE, "all", ("a",), id="a list of one's own, mode all"),
        pytest.param("a", Selection(), "worker", (), id="a list of one's own, no GPU"),
        pytest.param("team:x/gpu=h100", ONE_OF_ONE, "worker", ("team:x/gpu=h100",), id="signs"),
    ],
)
def test_tags(option: str, selection: Selection, mode: str, expected: tuple[str, ...]) -> None:
    assert tags(option, selection, mode) == expected


@pytest.mark.parametrize(
    "option",
    [
        pytest.param("", id="empty"),
        pytest.param("a,,b", id="an empty tag"),
        pytest.param("a b", id="a blank inside"),
        pytest.param("a\nCONCOURSE_NAME=x", id="a new line"),
        pytest.param("a\n", id="a new line at the end"),
        pytest.param('"a"', id="quotes"),
        pytest.param("a\\", id="a backslash"),
        pytest.param("${x}", id="a variable"),
        pytest.param("é", id="not ASCII"),
        pytest.param("x" * 65, id="too long"),
        pytest.param("auto,a", id="auto and more"),
        pytest.param("a,none", id="none and more"),
        pytest.param(",".join(f"t{number}" for number in range(500)), id="too many"),
    ],
)
def test_tags_refused(option: str) -> None:
    with pytest.raises(ValueError, match=r"^gpu-worker-tags=\S.*: use auto, none, or a list") as e:
        tags(option, ALL_OF_THREE, "worker")
    assert str(e.value).isprintable()
    assert len(str(e.value)) <= 150


# --- whatever is written ----------------------------------------------------------------

pieces = st.sampled_from(
    [
        "0", "1", "2", "7", "00", "0:0", "1:0", "1:1", "all", "none", "void", "", " ", "\t", "\n",
        gpu_uuid(0), gpu_uuid(1), mig_uuid(0), OLD_MIG, gpu_uuid(0).upper(), "GPU-", "MIG-",
        "nvidia.com/gpu=all", "$(id)", '"', "\\", "\x00", "\u212a", "=", "é",
    ]
)  # fmt: skip
hostile = st.one_of(
    st.lists(pieces, max_size=8).map(",".join), st.lists(pieces).map("".join), st.text()
)


def refusal(read: Callable[[str], object], value: str) -> str:
    """Return the sentence with which a value is refused; "" if it is taken."""
    try:
        read(value)
    except ValueError as error:
        return str(error)
    return ""


KNOWN = {gpu_uuid(0), mig_uuid(0), OLD_MIG}
SPELLINGS = KNOWN | {"0", "1:0", "1:1"}


@settings(max_examples=500, deadline=None)
@given(value=hostile)
def test_only_known_uuids_ever_get_through(value: str) -> None:
    refused = refusal(parse, value)
    if refused:
        assert refused.isprintable()
        assert len(refused) <= 150
        return
    request = parse(value)
    chosen = select(MIXED, request)
    assert set(chosen.allowed) <= KNOWN
    assert len(set(chosen.allowed)) == len(chosen.allowed)
    assert {name for name, _ in chosen.spellings} <= SPELLINGS
    assert {uuid for _, uuid in chosen.spellings} == set(chosen.allowed)
    assert set(chosen.missing) <= set(request.wanted)
    sentence = nothing_here(MIXED, request)
    assert sentence.isprintable()
    assert len(sentence) <= 150
    assert set(tags("auto", chosen, "worker")) <= {
        "gpu", "gpu-type=nvidia", "gpu-count=1", "gpu-count=2", "gpu-count=3",
        *(f"gpu-devices={ids}" for ids in ("0", "1:0", "1:1", "0+1:0", "0+1:1", "1:0+1:1")),
    }  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(option=hostile)
def test_only_plain_tags_ever_get_through(option: str) -> None:
    refused = refusal(parse_tags, option)
    assert refused.isprintable()
    own = () if refused else parse_tags(option)
    assert all(tag.isascii() and tag.isprintable() and 0 < len(tag) <= 64 for tag in own)
    assert not set(",\"'\\$` \t\n") & set("".join(own))
    assert len(set(own)) == len(own)


@settings(max_examples=300, deadline=None)
@given(value=hostile)
def test_only_known_capabilities_ever_get_through(value: str) -> None:
    refused = refusal(parse_capabilities, value)
    assert refused.isprintable()
    normal = "all" if refused else parse_capabilities(value)
    assert normal == "all" or set(normal.split(",")) <= set(CAPABILITIES)
    assert parse_capabilities(normal) == normal


@given(value=hostile)
def test_reading_twice_reads_the_same(value: str) -> None:
    request = DeviceRequest() if refusal(parse, value) else parse(value)
    if not request.everything:
        assert parse(",".join(request.wanted)) == request
