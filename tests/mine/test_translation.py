import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from mretrieve.datasets.qrels import read_qrels
from mretrieve.datasets.queries import read_queries
from mretrieve.datasets.source import open_source
from mretrieve.errors import InputError
from mretrieve.indexing import build_index
from mretrieve.mine.apertium import Apertium
from mretrieve.mine.parallel import ParallelFile
from mretrieve.mine.relations import read_groups
from mretrieve.mine.translation import TranslationOptions, report_file, translate
from tests.conftest import write_jsonl
from tests.mine.conftest import write_folder
from tests.mine.test_apertium import needs_apertium

ROWS = [
    {"eng": "A cat sat.", "deu": "Eine Katze saß.", "fra": "Un chat était assis."},
    {"eng": "A dog ran.", "deu": "Ein Hund lief.", "fra": "Un chien courait."},
    {"eng": "Who sat?", "deu": "Wer saß?", "fra": "Qui était assis ?"},
]
DOCUMENTS = [
    {"_id": "d1", "title": "A cat sat.", "text": "A dog ran. A cat sat.", "lang": "en"},
    {"_id": "d2", "text": "Nobody knows this one.", "lang": "en"},
    {"_id": "d3", "text": "Ein Hund lief.", "lang": "de"},
]
QUERIES = [{"_id": "q1", "text": "Who sat?", "lang": "en"}, {"_id": "q2", "text": "A dog ran.", "lang": "en"}]
QRELS = {"q1": {"d1": 1, "d2": 1}, "q2": {"d3": 2}}


@pytest.fixture
def engine(tmp_path):
    return ParallelFile(write_jsonl(tmp_path / "parallel.jsonl", ROWS))


@pytest.fixture
def source(tmp_path):
    return write_folder(tmp_path / "source", DOCUMENTS, QUERIES, QRELS)


@pytest.fixture
def run(tmp_path, engine):
    def run(source, output="out", **options):
        extra = {
            name: options.pop(name) for name in ("overwrite", "translator", "on_progress") if name in options
        }
        extra.setdefault("translator", engine)
        return translate(
            source,
            tmp_path / output,
            options=TranslationOptions(**options),
            cache=tmp_path / "cache.sqlite",
            **extra,
        )

    return run


def test_documents_and_queries(run, source, tmp_path):
    report = run(source, to=("de", "fr"))
    documents = {one.doc_id: one for one in open_source(tmp_path / "out").documents()}
    assert set(documents) == {"d1@de", "d1@fr", "d3@de", "d3@fr"}
    assert (documents["d1@de"].title, documents["d1@de"].text) == (
        "Eine Katze saß.",
        "Ein Hund lief. Eine Katze saß.",
    )
    assert (documents["d3@de"].text, documents["d3@fr"].text) == ("Ein Hund lief.", "Un chien courait.")
    queries = {one.query_id: (one.text, one.lang) for one in read_queries(tmp_path / "out")}
    assert queries["q1@de"] == ("Wer saß?", "de")
    assert read_qrels(tmp_path / "out") == {
        "q1@de": {"d1@de": 1},
        "q1@fr": {"d1@fr": 1},
        "q2@de": {"d3@de": 2},
        "q2@fr": {"d3@fr": 2},
    }
    assert report.total("not translated") == 2
    assert json.loads((tmp_path / "out" / "translation.json").read_bytes()) == report.to_dict()
    assert read_groups(tmp_path / "out")["d1@fr"] == "d1"


def test_only_documents(run, source, tmp_path):
    run(source, to=("fr",), only="documents")
    assert [one.query_id for one in read_queries(tmp_path / "out")] == ["q1", "q2"]
    assert read_qrels(tmp_path / "out") == {"q1": {"d1@fr": 1}, "q2": {"d3@fr": 2}}


def test_only_queries(run, source, tmp_path):
    run(source, to=("fr",), only="queries")
    assert {one.doc_id for one in open_source(tmp_path / "out").documents()} == {"d1", "d2", "d3"}
    assert read_qrels(tmp_path / "out") == {"q1@fr": {"d1": 1, "d2": 1}, "q2@fr": {"d3": 2}}


def test_across_languages_and_from_one(run, source, tmp_path):
    report = run(source, to=("de", "fr"), across=True, sources=("en",))
    assert read_qrels(tmp_path / "out") == {
        "q1@de": {"d1@de": 1, "d1@fr": 1},
        "q1@fr": {"d1@de": 1, "d1@fr": 1},
    }
    assert report.total("left out") == 2


def test_one_split(run, source, tmp_path):
    (source / "qrels" / "dev.tsv").write_text("q2\td3\t1\n", "utf-8")
    run(source, to=("de",), split="dev")
    assert {one.doc_id for one in open_source(tmp_path / "out").documents()} == {"d3@de"}
    assert [one.name for one in (tmp_path / "out" / "qrels").iterdir()] == ["dev.tsv"]
    with pytest.raises(InputError, match="has no split 'test' in qrels/. There is: dev, train."):
        run(source, "other", to=("de",), split="test")


def test_a_file(run, tmp_path):
    file = write_jsonl(tmp_path / "docs.jsonl", DOCUMENTS)
    run(file, "deep/out.jsonl.gz", to=("fr",))
    output = tmp_path / "deep" / "out.jsonl.gz"
    assert [one.doc_id for one in open_source(output).documents()] == ["d1@fr", "d3@fr"]
    assert report_file(output).name == "out.translation.json"
    assert report_file(output).is_file()


def test_again_comes_to_the_same_from_the_cache(run, source, tmp_path):
    run(source, to=("de", "fr"))
    again = run(source, "again", to=("de", "fr"))
    for name in ("corpus.jsonl.gz", "queries.jsonl.gz", "qrels/train.tsv", "translation.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert again.reused > 0


def test_an_old_output_is_replaced_only_if_asked(run, source, tmp_path):
    run(source, to=("de",))
    with pytest.raises(InputError, match="exists. Choose another name, or replace it with --overwrite"):
        run(source, to=("de",))
    run(source, to=("fr",), overwrite=True)
    assert {one.lang for one in read_queries(tmp_path / "out")} == {"fr"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear me")
    with pytest.raises(InputError, match="was not made by a translation"):
        run(source, "mine", to=("de",), overwrite=True)
    assert (tmp_path / "mine" / "diary.txt").is_file()


def test_wrong_options(run, source, tmp_path):
    for options, message in [
        ({"to": ("sw",)}, "parallel:parallel.jsonl does not translate into 'sw', but into: de, en, fr"),
        ({"to": ("de",), "sources": ("sw",)}, "does not translate 'sw' into 'de'; to de from: en, fr"),
        ({"to": ("qq",)}, "Unknown language 'qq'"),
        ({"to": ()}, "Name the languages"),
        ({"to": ("de",), "only": "titles"}, "Unknown part 'titles'. Choose from: all, documents, queries"),
    ]:
        with pytest.raises(InputError, match=message):
            run(source, **options)
    with pytest.raises(InputError, match="is a folder, so .* will be one"):
        run(source, "out.jsonl", to=("de",))
    with pytest.raises(InputError, match="is a file, so .* will be one"):
        run(write_jsonl(tmp_path / "docs.jsonl", DOCUMENTS), "out", to=("de",))
    with pytest.raises(InputError, match="There is no file or folder"):
        run(tmp_path / "nothing", to=("de",))
    assert not (tmp_path / "out").exists()


def test_nothing_that_can_be_translated(run, tmp_path):
    swahili = write_folder(
        tmp_path / "sw", [{"_id": "1", "text": "Paka.", "lang": "sw"}], [], {"q": {"1": 1}}
    )
    (swahili / "queries.jsonl").unlink()
    with pytest.raises(InputError, match="does not translate 'sw' into 'de'"):
        run(swahili, to=("de",))
    with pytest.raises(InputError, match="does not translate 'sw' into 'de'"):
        run(swahili / "corpus.jsonl", "out.jsonl", to=("de",))
    unknown = write_jsonl(tmp_path / "unknown.jsonl", DOCUMENTS[1:2])
    with pytest.raises(InputError, match="translated nothing of what there is in en"):
        run(unknown, "out.jsonl", to=("de",))
    assert not (tmp_path / "out.jsonl").exists() and not (tmp_path / "out").exists()


def test_evaluation_data_only_if_asked(run, source, tmp_path):
    folder = shutil.copytree(source, tmp_path / "eval" / "x")
    with pytest.raises(InputError, match="must not be translated for training"):
        run(folder, to=("de",))
    run(folder, to=("de",), evaluation=True)


@needs_apertium
def test_passages_of_the_sample_by_apertium(run, data, tmp_path, model):
    """English passages into Spanish; what comes out can be indexed as it is."""
    engine = Apertium()
    if "es" not in engine.languages.get("en", ()):
        pytest.skip("the pair is not installed: apt-get install apertium-eng-spa")
    english = [one for one in data.documents if one["lang"] == "en"][:5]
    file = write_jsonl(tmp_path / "docs.jsonl", english)
    report = run(file, "es.jsonl", to=("es",), translator=engine)
    translated = list(open_source(tmp_path / "es.jsonl").documents())
    assert report.total("translated") == len(translated) == 5
    for one, source in zip(translated, english, strict=True):
        assert one.text != source["text"]
        assert 0.5 < len(one.text) / len(source["text"]) < 2
        assert one.text.count("\n") == source["text"].count("\n")
    build_index(tmp_path / "es.jsonl", tmp_path / "index", model=str(model), lexical=False)


PROGRAM = """
import sys, time
from pathlib import Path
from mretrieve.mine.translation import TranslationOptions, translate
from tests.mine.test_versions import Upper

class Slow(Upper):
    characters_at_once = 200
    def translate(self, texts, source, target):
        time.sleep(0.05)
        return super().translate(texts, source, target)

folder = Path(sys.argv[1])
translate(folder / "docs.jsonl", folder / "out.jsonl", Slow(), options=TranslationOptions(to=("de",)),
          cache=folder / "cache.sqlite", on_progress=lambda *a: None)
"""


@pytest.mark.slow
def test_killed_work_goes_on(tmp_path):
    documents = [{"_id": str(n), "text": f"text {'x' * n} y", "lang": "en"} for n in range(100, 200)]
    write_jsonl(tmp_path / "docs.jsonl", documents)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    process = subprocess.Popen(command)
    cache = tmp_path / "cache.sqlite"
    size = 0
    while size < 30_000 and process.poll() is None:
        size = cache.stat().st_size if cache.exists() else 0
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was too fast"
    assert not (tmp_path / "out.jsonl").exists()
    subprocess.run(command, check=True)
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == [f"de: {one['text'].upper()}" for one in documents]
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "cache.sqlite",
        "docs.jsonl",
        "out.jsonl",
        "out.translation.json",
    ]
