"""Sets of a run: whole or not there, and found by STAGE/SET."""

from types import SimpleNamespace

import pytest

from mretrieve.errors import InputError
from mretrieve.train.sets import is_set, load_set, negative_columns, set_names, write_rows, write_set


def context(folder):
    return SimpleNamespace(input_path=lambda address: folder / address, stage=SimpleNamespace(name="mix"))


def test_a_set_is_read_as_it_was_written(tmp_path):
    rows = [
        {"anchor": "a", "positive": "b", "negative_ids": ["x"]},
        {"anchor": "c", "positive": "d", "negative_ids": []},
    ]
    write_rows(rows, tmp_path / "mono")
    assert list(load_set("mono", context(tmp_path), ["anchor"])) == rows
    write_set({"anchor": ["new"]}, tmp_path / "mono")
    assert list(load_set("mono", context(tmp_path))) == [{"anchor": "new"}]
    assert [path.name for path in tmp_path.iterdir()] == ["mono"]


def test_what_is_no_set_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    assert not is_set(tmp_path / "empty")
    with pytest.raises(InputError, match=r"empty is no data set that a stage has written: give STAGE/SET"):
        load_set("empty", context(tmp_path))
    write_set({"anchor": ["a"]}, tmp_path / "mono")
    with pytest.raises(InputError, match=r"'mono' lacks scores, which stage 'mix' needs; it has anchor"):
        load_set("mono", context(tmp_path), ["anchor", "scores"])


def test_sets_have_names_of_their_own():
    assert set_names(["data/mono", "mined/cross"], "x") == {"mono": "data/mono", "cross": "mined/cross"}
    with pytest.raises(
        InputError, match=r"Stage 'x': data names 'mined/mono', which is two sets of that name"
    ):
        set_names(["data/mono", "mined/mono"], "x")
    with pytest.raises(InputError, match=r"data names 'data', which is no set, only a stage"):
        set_names(["data"], "x")


def test_negatives_are_counted_from_one():
    assert negative_columns(2) == ["negative_1", "negative_2"]
