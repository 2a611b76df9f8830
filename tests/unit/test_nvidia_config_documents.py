"""Any document in place of the machine's config.toml: its values stay, the doors are closed."""

from __future__ import annotations

import copy
import string
import tempfile
from pathlib import Path
from typing import Any

import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu.chain_config import chain_values
from gpu.nvidia_config import ensure_host_config, undo
from gpu.toml_edit import edited, values_of
from host import Layout
from tests.unit.nvidia_configs import RUNC, config, values

# Random documents: any keys and values, our sections among them, in any order.
_keys = st.sampled_from(["runtimes", "no-cgroups", "mode", "x"]) | st.text(
    string.ascii_letters + string.digits + "-_ .é#\"'", min_size=1, max_size=8
)
_plain = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
    | st.datetimes()
)
_values = st.recursive(
    _plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=6,
)
_section = st.dictionaries(_keys, _values, max_size=4)
_documents = st.builds(
    lambda others, runtime, cli: {**others, **runtime, **cli},
    st.dictionaries(_keys, _values, max_size=3),
    st.just({}) | st.builds(lambda table: {"nvidia-container-runtime": table}, _section),
    st.just({}) | st.builds(lambda table: {"nvidia-container-cli": table}, _section),
)


@settings(max_examples=150, deadline=None)
@given(document=_documents, no_cgroups=st.booleans(), comment=st.booleans())
def test_any_document_keeps_its_other_values_and_comes_back_to_the_byte(
    document: dict[str, Any], no_cgroups: bool, comment: bool
) -> None:
    text = ("# hello\n" if comment else "") + tomlkit.dumps(document)
    expected = values_of(text)
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder))
        path = config(layout, text)
        ensure_host_config(layout, runtime=RUNC, no_cgroups=no_cgroups)
        expected.setdefault("nvidia-container-runtime", {})["runtimes"] = [str(RUNC)]
        if no_cgroups:
            expected.setdefault("nvidia-container-cli", {})["no-cgroups"] = True
        assert values(path) == expected
        undo(layout)
        assert path.read_bytes() == text.encode()


def test_a_layout_that_tomlkit_cannot_edit_keeps_its_values() -> None:
    text = "[a.b]\nx = 1\n[c]\n[a]\ny = 2\n"
    new = edited(text, {("a", "y"): 3, ("c", "z"): True})
    assert values_of(new) == {"a": {"b": {"x": 1}, "y": 3}, "c": {"z": True}}


@settings(max_examples=150, deadline=None)
@given(document=_documents)
def test_whatever_the_machines_file_says_the_doors_are_closed(document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)
    made = chain_values(document, runtime=RUNC, no_cgroups=False)
    assert document == before
    assert made["accept-nvidia-visible-devices-as-volume-mounts"] is False
    assert "swarm-resource" not in made
    runtime = made["nvidia-container-runtime"]
    assert runtime["runtimes"] == [str(RUNC)]
    assert runtime["modes"]["cdi"]["annotation-prefixes"] == []
    assert runtime["mode"] in ("auto", "legacy", "csv", "cdi", "jit-cdi")
    assert values_of(tomlkit.dumps(made)) == made
