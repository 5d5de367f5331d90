"""The stage `translate`: each text of a set once, looked up again by what it is."""

import gzip
import json

import pytest
from datasets import load_from_disk

from mretrieve.errors import InputError
from mretrieve.train.runner import run_recipe
from mretrieve.train.translating import TRANSLATIONS, read_translations, text_id


@pytest.fixture
def table(tmp_path, prepared):
    """Parallel text that knows all English passages in German, and all questions in French."""
    data = load_from_disk(str(tmp_path / "run" / "mined" / "mono"))
    path = tmp_path / "table.jsonl"
    english = [row for row in data if row["language"] == "en"]
    texts = {
        text for row in english for text in (row["positive"], *(row[f"negative_{i}"] for i in (1, 2, 3)))
    }
    rows = [{"eng": text, "deu": f"deutsch {text}"} for text in sorted(texts)]
    rows += [{"eng": row["anchor"], "fra": f"question {row['anchor']}"} for row in english]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def run(write_recipe, prepared, table, tmp_path):
    def run(**change):
        stage = {"stage": "translate", "data": ["mined/mono"], "engine": f"parallel:{table}", "to": ["de"]}
        recipe = write_recipe(prepared | {"translated": stage | change})
        return run_recipe(recipe, run_folder=tmp_path / "run", device="cpu")

    return run


def test_every_passage_is_translated_once(run, tmp_path):
    report = run(sources=["en"])
    found = {
        (name, code): text
        for name, code, text in read_translations(report.folder / "translated" / TRANSLATIONS)
    }
    data = load_from_disk(str(report.folder / "mined" / "mono"))
    english = [row for row in data if row["language"] == "en"]
    wanted = {row[name] for row in english for name in ("positive", "negative_1", "negative_2", "negative_3")}
    assert found == {(text_id("en", text), "de"): f"deutsch {text}" for text in wanted}
    assert report.stages[-1].details["translated"] == len(wanted)
    with gzip.open(report.folder / "translated" / TRANSLATIONS, "rt", encoding="utf-8") as file:
        assert {json.loads(line)["translated_by"] for line in file} == {"parallel:table.jsonl"}


def test_questions_are_translated_where_it_is_asked_for(run):
    report = run(texts=["questions"], to=["fr"], sources=["en"])
    texts = [text for _, _, text in read_translations(report.folder / "translated" / TRANSLATIONS)]
    assert texts and all(text.startswith("question ") for text in texts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engine": "parallel:nowhere.jsonl"}, r"reads 'nowhere.jsonl', but there is no"),
        ({"engine": "best"}, r"There is no translator 'best'"),
        ({"to": ["th"]}, r"does not translate into 'th'"),
        ({"texts": ["titles"]}, r"texts\.0: input should be 'passages' or 'questions'"),
    ],
)
def test_what_cannot_be_translated_is_told(run, change, message):
    with pytest.raises(InputError, match=message):
        run(**change)
