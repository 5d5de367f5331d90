import ast
import io
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

import mretrieve

ROOT = Path(__file__).resolve().parent.parent
EXPORTS = [
    "Document",
    "Encoder",
    "Hit",
    "InputError",
    "MissingDependencyError",
    "Query",
    "Reranker",
    "Retriever",
    "build_index",
]


def test_exports():
    assert mretrieve.__all__ == EXPORTS
    for name in EXPORTS:
        assert getattr(mretrieve, name).__name__ == name


def test_names_for_readers_and_for_python_are_the_same():
    """Editors see the imports under TYPE_CHECKING, Python takes `_HOMES`."""
    tree = ast.parse(Path(mretrieve.__file__).read_text(encoding="utf-8"))
    [guarded] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in guarded.body for alias in node.names}
    assert seen == mretrieve._HOMES
    assert list(seen) and sorted(seen) == EXPORTS


def test_no_export_is_hidden_by_a_folder_of_its_name():
    """Importing `mretrieve.evaluate.measures` makes `mretrieve.evaluate` that folder, whatever we say."""
    folder = Path(mretrieve.__file__).parent
    assert not set(EXPORTS) & {path.stem for path in folder.iterdir()}


def test_dir_lists_the_exports():
    assert set(EXPORTS) <= set(dir(mretrieve))


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", mretrieve.__version__)


def test_unknown_names():
    with pytest.raises(AttributeError, match="module 'mretrieve' has no attribute 'retriever_'"):
        mretrieve.retriever_  # noqa: B018


def test_star_import_gives_the_exports():
    code = "from mretrieve import *; import sys; sys.exit(Retriever.__name__ + build_index.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "Retrieverbuild_index\n"


def readme_snippet():
    [snippet] = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    return snippet


def test_the_readmes_snippet_runs(tmp_path, monkeypatch, e5_folder):
    monkeypatch.chdir(tmp_path)
    names, printed = {}, io.StringIO()
    with redirect_stdout(printed):
        exec(compile(readme_snippet(), "README.md", "exec"), names)
    lines = printed.getvalue().splitlines()
    assert len(lines) == 3
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    vectors = names["vectors"]
    assert (vectors.shape, vectors.dtype) == ((1, 384), np.float32)
    assert np.linalg.norm(vectors) == pytest.approx(1, abs=1e-5)
