"""Tests that the documentation names everything that exists, and nothing else."""

import ast
import configparser
import importlib
import re
from dataclasses import fields
from pathlib import Path

import click
import pytest

import tinytags
from conf.settings import HELP, Settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
VERBS = tinytags.ORDER
# Folders of the store that the documentation names.
NOT_IN_THE_PROJECT = {"rejected/", "bad/"}


def verb(name: str) -> click.Command:
    return tinytags.command.get_command(click.Context(tinytags.command), name)


@pytest.mark.parametrize("name", VERBS)
def test_the_readme_has_every_verb(name):
    assert re.search(rf"^\| .*`{name}`.* \|", README, re.MULTILINE), (
        f"{name} is not in the README's table of verbs"
    )


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_and_option_states_what_it_is_for(name):
    command = verb(name)
    assert len(command.help) > 30
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            listed = isinstance(parameter.type, click.Choice) or parameter.name in (
                "trees",
                "host",
                "port",
                "seed",
            )
            assert parameter.help or listed, f"{name} --{parameter.name} has no help"


def test_the_readme_has_every_setting_and_its_default():
    for field in fields(Settings):
        assert f"| `{field.name}` |" in README
        assert field.name in HELP
        if field.default:
            assert f"`{field.default}`" in README


def test_the_verbs_are_those_that_there_are():
    assert set(VERBS) == set(tinytags.command.commands) | set(tinytags.ELSEWHERE)


def test_the_readme_links_only_to_files_that_there_are():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


FOLDERS = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}


@pytest.mark.parametrize("document", ["README.md", "docs/architecture.md"])
def test_every_folder_of_code_is_in_the_table_of_folders(document):
    tables = "".join(re.findall(r"^\| `.*$", (ROOT / document).read_text(), re.MULTILINE))
    assert {folder for folder in FOLDERS if f"`{folder}/`" not in tables} == set()


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_path_in_the_documentation_exists(document):
    paths = re.findall(r"`((?:[a-z_.]+/)+(?:[a-z_]+(?:\.\w+)?)?)`", (ROOT / document).read_text())
    assert [path for path in paths if not (ROOT / path).exists() and path not in NOT_IN_THE_PROJECT] == []


def test_every_registry_in_the_table_of_seams_exists():
    seams = (ROOT / "docs/architecture.md").read_text().partition("## Seams")[2].partition("\n## ")[0]
    for module, name in re.findall(r"`([a-z_.]+)\.(\w+)`", seams):
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


def test_the_changelog_has_every_verb():
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert {name for name in VERBS if f"{name}" not in changes} == set()


def test_every_package_that_is_required_is_pinned():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lists = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    required = {
        re.match(r"[A-Za-z0-9_-]+", line)[0]
        for lines in lists
        for line in lines.splitlines()
        if line and line[0] != "#"
    }
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    flat = {name.lower().replace("_", "-") for name in pinned}
    assert {name for name in required - {"tinytags"} if name.lower().replace("_", "-") not in flat} == set()


# As names these hide what something is: a message, a result, a request.
WORDS = {
    "told",
    "tells",
    "said",
    "say",
    "says",
    "asked",
    "asks",
    "look",
    "looks",
    "looked",
    "found",
    "shown",
    "meant",
    "telling",
}


def test_no_name_has_a_word_that_hides_what_it_is():
    folders = [path for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").exists()]
    files = [*ROOT.glob("*.py"), *(file for one in (*folders, ROOT / "tests") for file in one.rglob("*.py"))]
    assert len(files) > 300
    wrong = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            defined = isinstance(node, ast.FunctionDef | ast.ClassDef | ast.arg)
            defined = defined or (
                isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store)
            )
            name = next(
                (getattr(node, key) for key in ("name", "arg", "id", "attr") if hasattr(node, key)), ""
            )
            if defined and not name.startswith("test_") and WORDS & set(name.lower().split("_")):
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno} {name}")
    assert wrong == []
