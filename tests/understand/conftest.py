"""Models and parallel text that the tests of this room share; not to be changed."""

import pytest

from tests.understand.data import sparse_folder, write_rows


@pytest.fixture(scope="session")
def parallel(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("parallel") / "rows.jsonl")


@pytest.fixture(scope="session")
def sparse(tmp_path_factory):
    return sparse_folder(tmp_path_factory.mktemp("models") / "sparse")
