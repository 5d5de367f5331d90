"""The rules that hold the tree together: who imports whom, what starting costs, what a recipe may be."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mretrieve.recipe import read_recipe
from mretrieve.train.recipe import read_training_recipe

ROOT = Path(__file__).resolve().parent.parent
BASE = {"types", "errors", "files", "languages", "language_tables", "cache"}

# Room -> the rooms that it may import. Modules beside the rooms put them together and may import any.
ARROWS = {
    "types": set(),
    "errors": set(),
    "languages": BASE,
    "language_tables": {"types", "errors"},
    "cache": BASE,
    "memory": set(),
    "files": {"errors"},
    "datasets": BASE,
    "models": BASE | {"memory"},
    "evaluate": BASE,
    "index": BASE,
    "encode": BASE | {"models", "memory"},
    "rank": BASE | {"index", "encode", "models", "evaluate"},
    "milvus": BASE | {"datasets", "encode", "index", "rank", "indexing", "recipe"},
    "understand": BASE | {"datasets", "models", "encode"},
    "mine": BASE | {"datasets", "models", "encode", "index", "rank", "recipe", "indexing"},
    "train": BASE | {"datasets", "models", "encode", "index", "rank", "evaluate", "mine", "indexing"},
}
TOP = {"cli", "ui", "serve"}  # nothing imports these, but the command line starts the others

HEAVY = [
    "torch",
    "transformers",
    "sentence_transformers",
    "onnxruntime",
    "faiss",
    "jnius",
    "pyserini",
    "pyarrow",
]


def modules():
    """Dotted name -> file, of everything that is installed."""
    found = {}
    for folder, package in ((ROOT / "mretrieve", "mretrieve"), (ROOT / "ui", "mretrieve.ui")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


def imported(name, path):
    """Dotted names of ours that a module imports anywhere in its code, inside functions too."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return {other for other in names if other.split(".")[0] == "mretrieve"}


def room(name):
    """`mretrieve.index.lucene` -> `index`; the package itself -> nothing."""
    return (name.split(".") + [""])[1]


def rooms_imported(name, path):
    others = {room(other) for other in modules()} - {"", room(name)}
    return {room(other) for other in imported(name, path)} & others


def test_the_walk_sees_imports_of_every_form(tmp_path):
    source = "import mretrieve.index.faiss\nfrom .. import types\ndef f():\n    from mretrieve import cli\n"
    path = tmp_path / "lucene.py"
    path.write_text(source, encoding="utf-8")
    assert imported("mretrieve.index.lucene", path) == {
        "mretrieve.index.faiss",
        "mretrieve",
        "mretrieve.types",
        "mretrieve.cli",
    }


def test_every_room_has_its_arrows():
    packages = {room(name) for name, path in modules().items() if path.name == "__init__.py"} - {""}
    assert packages <= ARROWS.keys() | TOP


@pytest.mark.parametrize(("name", "path"), modules().items(), ids=modules())
def test_imports_point_one_way(name, path):
    rooms = rooms_imported(name, path)
    allowed = ARROWS.get(room(name))
    if allowed is not None:
        assert rooms <= allowed, f"{name} must not import {sorted(rooms - allowed)}"
    assert not rooms & (TOP - ({"serve", "ui"} if room(name).startswith("cli") else set()))


@pytest.mark.parametrize(("name", "path"), modules().items(), ids=modules())
def test_the_library_prints_nothing(name, path):
    if room(name) == "cli":
        pytest.skip("the command line reports on stdout")
    calls = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
    ]
    assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


@pytest.mark.parametrize(
    "code",
    [
        "import mretrieve",
        "import sys\nsys.argv = ['mretrieve', '--help']\nfrom mretrieve.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code",
    ],
    ids=["import", "help"],
)
def test_starting_imports_nothing_heavy(code):
    report = f"\nimport json, sys\nloaded = [name for name in {HEAVY} if name in sys.modules]"
    report += "\nprint(json.dumps(loaded), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr.splitlines()[-1]) == []


def test_every_package_is_installed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packages = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert set(settings["packages"]) == packages
    assert settings["package-dir"] == {"mretrieve.ui": "ui"}


def test_every_dependency_is_pinned():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert pins["torch"] == "2.13.0"
    assert not [version for version in pins.values() if "+" in version], "public versions only"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"]]
    needed += [one for name, more in extras.items() if name not in ("gpu", "all") for one in more]
    assert {normal(name) for name in needed} <= {normal(name) for name in pins}


def normal(requirement):
    """`PyYAML>=6` -> `pyyaml`, as package indexes compare names."""
    return re.sub("[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


READERS = {"indexes": read_recipe, "training": read_training_recipe}
RECIPES = sorted(path for folder in READERS for path in (ROOT / folder).glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=[path.name for path in RECIPES])
def test_every_recipe_loads(path):
    assert READERS[path.parent.name](path)
    assert str(Path.home()) not in path.read_text(encoding="utf-8")
