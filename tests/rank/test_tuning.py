"""What was learned stands in the index, and the index stays whole."""

import json

import pytest

from mretrieve import files
from mretrieve.errors import InputError
from mretrieve.index.manifest import read_manifest
from mretrieve.index.open import open_index, verify
from mretrieve.rank.fusion import Fusion
from mretrieve.rank.retriever import Retriever
from mretrieve.rank.tuning import TUNING, TunedLanguage, Tuning, read_tuning, write_tuning
from mretrieve.types import Query

LEARNED = Tuning("nDCG@10", {"en": TunedLanguage("zscore:1", 50, 0.9, 0.2, 0.7, 0.9)})


@pytest.fixture
def index(own_index):
    return own_index


def read(index):
    return read_tuning(index, read_manifest(index))


def test_what_is_written_is_read_again(index):
    assert read(index) is None
    write_tuning(index, LEARNED)
    assert read(index) == LEARNED
    assert read(index).fusions() == {"en": Fusion("zscore", 1.0)}
    assert TUNING in verify(index).files
    other = Tuning("RR@10", {"de": TunedLanguage("rrf:60", 40, 0.5, 0.5, 0.6, 0.6)})
    write_tuning(index, other)
    assert read(index) == other
    verify(index)


def test_it_can_be_taken_away(index):
    before = (index / "manifest.json").read_bytes()
    write_tuning(index, LEARNED)
    write_tuning(index, None)
    assert (index / "manifest.json").read_bytes() == before
    assert not (index / TUNING).exists()
    open_index(index)


def test_searches_use_it_for_its_languages_unless_told_otherwise(index):
    plain = Retriever(index)
    queries = [Query("1", "the cat in the garden", "en"), Query("2", "alte Bäume im Wald", "de")]
    before = [one.ranking.scores.tolist() for one in plain.rank(queries, mode="hybrid")]
    dense = [one.ranking.rows.tolist() for one in plain.rank(queries, mode="dense")]
    write_tuning(index, LEARNED)
    tuned = [one.ranking for one in Retriever(index).rank(queries, mode="hybrid")]
    assert tuned[0].rows.tolist()[:2] == dense[0][:2]
    assert tuned[0].scores.tolist() != before[0]
    assert tuned[1].scores.tolist() == before[1]
    told = Retriever(index, fusion="zscore:0.5").rank(queries, mode="hybrid")
    assert [one.ranking.scores.tolist() for one in told] == before


def test_a_kill_in_between_leaves_an_index_that_opens(index, monkeypatch):
    write_tuning(index, LEARNED)
    real = files.atomic_file

    def killed(path):
        if path.name == TUNING:
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(files, "atomic_file", killed)
    with pytest.raises(KeyboardInterrupt):
        write_tuning(index, Tuning("RR@10", {}))
    monkeypatch.undo()
    open_index(index)
    assert read(index) is None
    write_tuning(index, LEARNED)
    assert read(index) == LEARNED


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        json.dumps({"format": "mretrieve-tuning", "format_version": 2, "measure": "AP", "languages": {}}),
        json.dumps(
            {"format": "mretrieve-tuning", "format_version": 1, "measure": "AP", "languages": {"en": {}}}
        ),
        json.dumps(
            {
                "format": "mretrieve-tuning",
                "format_version": 1,
                "measure": "AP",
                "languages": {
                    "en": {"fusion": "x"} | dict.fromkeys(("queries", "dense", "bm25", "before", "after"), 1)
                },
            }
        ),
    ],
)
def test_a_file_that_cannot_be_used(index, content):
    write_tuning(index, LEARNED)
    (index / TUNING).write_text(content)
    with pytest.raises(InputError, match=r"tuning\.json cannot be used .* Run `mretrieve tune` again"):
        read(index)


def test_a_damaged_file_is_told_as_any_other_of_the_index(index):
    write_tuning(index, LEARNED)
    (index / TUNING).write_text("x")
    with pytest.raises(InputError, match=r"tuning\.json has 1 bytes instead of"):
        Retriever(index)
