"""The documentation and the Terraform module say what the charm's own files say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import tsa
from concourse import extra_env
from concourse.paths import WebPaths
from concourse.web_environment import MANAGED
from docs import generate
from host import Layout
from tests.unit import hcl

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
        ROOT / "terraform/README.md",
    ]
)
RELATIONS = (ROOT / "docs/reference/relations.md").read_text(encoding="utf-8")
FILES = (ROOT / "docs/reference/files.md").read_text(encoding="utf-8")
# Other charms' endpoints that the commands name.
OTHERS = {"postgresql": {"database", "db"}, "self-signed-certificates": {"certificates"}}


def load(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


METADATA = load("metadata.yaml")
OPTIONS: dict[str, Any] = load("config.yaml")["options"]
ACTIONS = load("actions.yaml")
TERRAFORM = ROOT / "terraform"
APPLICATION = hcl.read(TERRAFORM / "main.tf")[0]
VARIABLES = {block.labels[0]: block for block in hcl.read(TERRAFORM / "variables.tf")}
OUTPUTS = {block.labels[0]: block for block in hcl.read(TERRAFORM / "outputs.tf")}
ENDPOINTS = {name for role in ("provides", "requires", "peers") for name in METADATA[role]}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def shell(page: Path) -> str:
    """Return the commands of a page, continued lines joined."""
    blocks = re.findall(r"```sh\n(.*?)```", text_of(page), re.DOTALL)
    return re.sub(r"\\\n\s*", "", "\n".join(blocks))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("path", generate.pages(), ids=name_of)
def test_generated_page_is_current(path: Path) -> None:
    assert text_of(path) == generate.pages()[path], "run tox -e docs"


def test_generated_text_never_begins_a_heading_or_a_list() -> None:
    assert generate._text("one\n# two\n- three\n") == "one\n\\# two\n\\- three"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_name_options_actions_and_endpoints_that_are_there(page: Path) -> None:
    commands = shell(page)
    for setting in re.findall(r"--config ([a-z-]+)=", commands):
        assert setting in OPTIONS
    for line in re.findall(r"^juju config (.+)$", commands, re.MULTILINE):
        for setting in re.findall(r"(?<= )([a-z0-9-]+)=", line):
            assert setting in OPTIONS
    for action in re.findall(r"^juju run \S+/\d+ (\S+)", commands, re.MULTILINE):
        assert action in ACTIONS
    for line in re.findall(r"juju (?:relate|integrate) (.+?)(?:;|$)", commands, re.MULTILINE):
        for app, endpoint in re.findall(r"([\w$-]+):([a-z-]+)", line):
            assert endpoint in OTHERS.get(app, ENDPOINTS)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_are_taken_by_the_options_that_they_are_shown_for(page: Path) -> None:
    text = text_of(page)
    for block in re.findall(r"^(?:CONCOURSE_\w+=.+\n)+", text, re.MULTILINE):
        assert extra_env.parse(block, MANAGED)
    for setting in re.findall(r"worker-env=(CONCOURSE_\w+=[^`\s]+)", text):
        assert extra_env.parse(setting, extra_env.WORKER_MANAGED, "worker-env")
    keys = re.findall(r"secret's key `([a-z-]+)`", text)
    keys += re.findall(r"juju (?:add|update)-secret \S+ ([a-z-]+)[=#]", text)
    assert set(extra_env.secret_env(dict.fromkeys(keys, "x"), MANAGED)) == {
        f"CONCOURSE_{key.upper().replace('-', '_')}" for key in keys
    }


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page_is_reached_from_the_index_or_is_at_the_top(page: Path) -> None:
    if page.parent == ROOT or page == ROOT / "docs/index.md":
        return
    index = ROOT / "docs/index.md"
    targets = re.findall(r"\]\(([^)#\s]+)\)", text_of(index))
    assert page in {(index.parent / target).resolve() for target in targets}


def test_readme_is_short_and_leads_to_the_rest() -> None:
    readme = text_of(ROOT / "README.md")
    assert len(readme.splitlines()) < 300
    assert "(docs/index.md)" in readme


def test_every_path_that_the_code_names_is_listed() -> None:
    layout = Layout()
    owners = ((Layout, layout), (WebPaths, WebPaths(layout)))
    paths = {
        str(getattr(instance, name))
        for cls, instance in owners
        for name, found in vars(cls).items()
        if isinstance(found, property) and isinstance(getattr(instance, name), Path)
    }
    assert len(paths) > 20
    state = f"{layout.state}/"
    missing = [path for path in sorted(paths) if path.removeprefix(state) not in FILES]
    assert missing == []


def test_relations_page_has_every_endpoint_storage_and_resource() -> None:
    for name in (*ENDPOINTS, *METADATA["storage"], *METADATA["resources"]):
        assert f"`{name}`" in RELATIONS


def test_schema_of_the_tsa_is_the_codes() -> None:
    rows = re.findall(r"^\| (.+?) \| ([a-z-]+) \| (.+?) \|$", tsa.__doc__ or "", re.MULTILINE)
    rows = [row for row in rows if row[1] != "key"]
    assert len(rows) == 6
    for bag, key, what in rows:
        assert f"| {bag} | `{key}` | {what} |" in RELATIONS


class TestTerraform:
    """terraform/, as far as it can be checked without Terraform."""

    def test_charm_is_this_one(self) -> None:
        assert APPLICATION.labels == ("juju_application", "concourse")
        charm = next(block for block in APPLICATION.blocks if block.kind == "charm")
        assert charm.attributes["name"] == METADATA["name"]

    def test_provider_is_pinned(self) -> None:
        (terraform,) = hcl.read(TERRAFORM / "versions.tf")
        (providers,) = terraform.blocks
        assert providers.attributes["juju"]["source"] == "juju/juju"
        assert providers.attributes["juju"]["version"] == ">= 1.0.0, < 3.0.0"

    def test_every_variable_is_used_typed_and_described(self) -> None:
        used = set(re.findall(r"\bvar\.(\w+)", text_of(TERRAFORM / "main.tf")))
        assert used == set(VARIABLES)
        for variable in VARIABLES.values():
            assert variable.attributes["type"]
            assert variable.attributes["description"]

    def test_only_the_model_has_to_be_given(self) -> None:
        required = [name for name, block in VARIABLES.items() if "default" not in block.attributes]
        assert required == ["model_uuid"]

    def test_bases_are_those_that_are_packed(self) -> None:
        platforms = load("charmcraft.yaml")["platforms"].values()
        packed = {each["build-for"][0].rpartition(":")[0] for each in platforms}
        (validation,) = VARIABLES["base"].blocks
        assert set(re.findall(r'"([^"]+)"', validation.attributes["condition"])) == packed
        assert VARIABLES["base"].attributes["default"] in packed

    @pytest.mark.parametrize("role", ["provides", "requires"])
    def test_endpoints_are_those_of_the_metadata(self, role: str) -> None:
        value = OUTPUTS[role].attributes["value"]
        assert value == {name.replace("-", "_"): name for name in METADATA[role]}

    def test_endpoints_are_both_together(self) -> None:
        outputs = {name: block.attributes["value"] for name, block in OUTPUTS.items()}
        assert outputs["endpoints"] == {**outputs["provides"], **outputs["requires"]}
        assert outputs["application"] == "juju_application.concourse"

    def test_readme_lists_variables_and_outputs(self) -> None:
        readme = text_of(TERRAFORM / "README.md")
        rows = dict(re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", readme, re.MULTILINE))
        defaults = {
            name: block.attributes.get("default", "required") for name, block in VARIABLES.items()
        }
        listed = {name: rows[name].strip('`"') for name in VARIABLES}
        assert listed == {name: str(value or "{}") for name, value in defaults.items()}
        for name in OUTPUTS:
            assert f"\n| `{name}` |" in readme

    def test_readmes_example_uses_names_that_are_there(self, tmp_path: Path) -> None:
        example = re.search(r"```hcl\n(.*?)```", text_of(TERRAFORM / "README.md"), re.DOTALL)
        assert example is not None
        file = tmp_path / "example.tf"
        file.write_text(example[1], encoding="utf-8")
        modules = [block for block in hcl.read(file) if block.kind == "module"]
        assert len(modules) == 2
        for module in modules:
            assert set(module.attributes) - {"source"} <= set(VARIABLES)
            assert set(module.attributes["config"]) <= set(OPTIONS)
            assert set(module.attributes.get("storage_directives", {})) <= set(METADATA["storage"])
        for role, name in re.findall(r"module\.\w+\.(provides|requires)\.(\w+)", example[1]):
            assert name in OUTPUTS[role].attributes["value"]

    @pytest.mark.parametrize("path", sorted(TERRAFORM.glob("*.tf")), ids=name_of)
    def test_format_is_terraforms(self, path: Path) -> None:
        """Two spaces a level; equals signs of neighbouring lines in one column."""
        depth, column = 0, 0
        for line in text_of(path).splitlines():
            depth -= line.strip().startswith("}")
            assert line == line.rstrip()
            assert not line or len(line) - len(line.lstrip()) == 2 * depth
            found = re.match(r"\s*\w+ *(?= =)", line)
            single = found is not None and not line.endswith("{")
            if single and column:
                assert line.index("=") == column
            column = line.index("=") if single else 0
            depth += line.endswith("{")
        assert depth == 0
