"""The commands as a user types them, run in this process; some need their own: `test_cli_process.py`."""

import gzip
import json
import re

import numpy as np
import pytest
import typer

from mretrieve.cli import app
from mretrieve.datasets.runs import read_run
from mretrieve.errors import MissingDependencyError
from mretrieve.types import Hit
from tests.conftest import COLLECTION, write_jsonl

COMMANDS = [
    *("index", "search", "run", "encode", "info", "add", "delete", "compact", "verify"),
    *("evaluate", "compare", "fairness", "perturb", "bitext", "tune"),
    *("upcycle", "export", "routing", "extract", "train", "mine", "translate"),
    *("datasets", "download", "reproduce", "push", "pull", "tune-index", "plan", "serve", "mcp", "ui"),
]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_each_argument_is(command, name):
    done = command(name, "--help")
    assert (done.status, done.stderr) == (0, "")
    assert f"Usage: mretrieve {name}" in done.stdout
    assert f"Example: mretrieve {name} " in done.stdout
    parameters = typer.main.get_command(app).commands[name].params
    assert [one.name for one in parameters if not one.help] == []


def test_help_names_all_commands(command):
    done = command("-h")
    assert re.findall(r"^  ([\w-]+)  +\S", done.stdout.partition("Commands:")[2], re.MULTILINE) == COMMANDS
    assert "..." not in done.stdout.partition("Commands:")[2], "a first sentence is too long"


def test_no_command_shows_the_help(command):
    done = command()
    assert done.status == 2
    assert "Commands:" in done.stdout + done.stderr


def test_version(command):
    assert re.fullmatch(r"mretrieve \d+\.\d+\.\d+\n", command("--version").stdout)


# index


def tables():
    import pyarrow as pa

    rows = [("a", "the cat"), ("b", "a dog")]
    lines = [json.dumps({"docid": doc_id, "contents": text}) for doc_id, text in rows]
    table = pa.table({"doc_id": ["a", "b"], "text": ["the cat", "a dog"], "language": ["en", "en"]})
    return {
        "corpus.jsonl": "\n".join(lines).encode(),
        "corpus.jsonl.gz": gzip.compress("\n".join(lines).encode()),
        "with-header.tsv": b"id\ttitle\ttext\na\tPets\tthe cat\nb\t\ta dog\n",
        "no-header.tsv": b"a\tthe cat\nb\ta dog\n",
        "corpus.csv": b'id,text,lang\na,"the cat",en\nb,"a dog",en\n',
        "corpus.parquet": table,
    }


@pytest.mark.parametrize("name", [*tables(), "beir", "beir-gz", "texts"])
def test_index_reads_every_form_of_a_source(command, tmp_path, model, name):
    import pyarrow.parquet as pq

    source, expected = tmp_path / name, "a"
    if name == "texts":
        (source / "sub").mkdir(parents=True)
        (source / "sub" / "a.md").write_text("# Pets\n\nthe cat\n")
        (source / "b.txt").write_text("a dog\n")
        expected = "sub/a.md#1"
    elif name.startswith("beir"):
        source.mkdir()
        file = "corpus.jsonl.gz" if name.endswith("gz") else "corpus.jsonl"
        (source / file).write_bytes(tables()[file])
    elif name == "corpus.parquet":
        pq.write_table(tables()[name], source)
    else:
        source.write_bytes(tables()[name])
    done = command("index", source, tmp_path / "idx", "--model", model)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{tmp_path / 'idx'}: 2 documents in ")
    for mode in ("bm25", "dense", "hybrid"):
        found = command("search", tmp_path / "idx", "cat", "--mode", mode, "--lang", "en", "--json").json
        assert expected in [hit["doc_id"] for hit in found]


def test_index_prints_json_and_nothing_else(command, tmp_path, collection, model):
    done = command("index", collection, tmp_path / "idx", "--model", model, "--json")
    size = sum(file.stat().st_size for file in (tmp_path / "idx").rglob("*") if file.is_file())
    size -= (tmp_path / "idx" / "manifest.json").stat().st_size
    figures = {"index": str(tmp_path / "idx"), "documents": 6, "languages": 4, "bytes": size, "skipped": 0}
    assert (done.status, done.json, done.stderr) == (0, figures, "")


def languages_of(command, path):
    entries = command("info", path, "--json").json["languages"]
    return {lang: entry["documents"] for lang, entry in entries.items()}


def test_the_language_in_the_data_goes_before_that_of_the_command(command, tmp_path):
    text = "Der Hund lief durch den großen Wald."
    source = write_jsonl(
        tmp_path / "a.jsonl", [{"id": 1, "text": text, "lang": "nl"}, {"id": 2, "text": text}]
    )
    for option, languages in ((["--lang", "sw"], {"nl": 1, "sw": 1}), ([], {"nl": 1, "de": 1})):
        command("index", source, tmp_path / "idx", "--no-dense", "--overwrite", *option)
        assert languages_of(command, tmp_path / "idx") == languages
    command("index", source, tmp_path / "idx", "--no-dense", "--overwrite", "--lang", "auto")
    assert languages_of(command, tmp_path / "idx") == {"nl": 1, "de": 1}


def test_parts_may_be_left_out(command, tmp_path, collection, model):
    command("index", collection, tmp_path / "dense", "--model", model, "--no-lexical")
    command("index", collection, tmp_path / "bm25", "--no-dense")
    assert {entry.name for entry in (tmp_path / "dense").iterdir()} == {
        "manifest.json",
        "documents",
        "dense.faiss",
    }
    assert {entry.name for entry in (tmp_path / "bm25").iterdir()} == {
        "manifest.json",
        "documents",
        "lexical",
    }
    [hit, *_] = command("search", tmp_path / "dense", "cat", "--json").json
    assert hit["dense_rank"] == 1 and hit["bm25_rank"] is None
    [hit, *_] = command("search", tmp_path / "bm25", "cat", "--json").json
    assert hit["bm25_rank"] == 1 and hit["dense_rank"] is None


def test_terms_of_bm25_may_be_chosen(command, tmp_path, collection):
    names = {}
    for terms in ("analyzer", "both"):
        command("index", collection, tmp_path / terms, "--no-dense", "--bm25-terms", terms)
        names[terms] = command("info", tmp_path / terms, "--json").json["languages"]["en"]["analyzer"]
    assert names["both"] == names["analyzer"] + "+xlm-r-pieces-1"
    # The analyzer leaves "the" out, pieces do not.
    assert command("search", tmp_path / "analyzer", "the", "--lang", "en", "--json").json == []
    assert len(command("search", tmp_path / "both", "the", "--lang", "en", "--json").json) == 2
    done = command("index", collection, tmp_path / "none", "--no-lexical", "--bm25-terms", "both")
    assert done.status == 2 and "leave out --bm25-terms, or let it have BM25" in done.stderr


def test_options_go_before_the_recipe(command, tmp_path, collection, model):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"encoder: {{model: {model}}}\nfaiss: {{factory: Flat}}\nbm25: null\nfusion: {{method: minmax}}\n"
    )
    command("index", collection, tmp_path / "one", "--recipe", recipe)
    command("index", collection, tmp_path / "two", "--recipe", recipe, "--faiss", "HNSW8", "--lexical")
    one, two = (command("info", tmp_path / name, "--json").json for name in ("one", "two"))
    assert (one["dense"]["factory"], two["dense"]["factory"]) == ("Flat", "HNSW8")
    assert one["ranking"]["fusion"] == two["ranking"]["fusion"] == "minmax:0.5"
    assert one["languages"]["en"]["analyzer"] is None
    assert two["languages"]["en"]["analyzer"]


def test_skipped_documents_are_counted(command, tmp_path):
    source = write_jsonl(
        tmp_path / "a.jsonl", [{"id": "a", "text": "x"}, {"id": "b", "text": " "}, {"id": "a", "text": "y"}]
    )
    done = command("index", source, tmp_path / "idx", "--no-dense", "--on-error", "skip", "--json")
    assert (done.status, done.json["documents"], done.json["skipped"]) == (0, 1, 2)
    assert f"{source}: 2 skipped" in done.stderr and f"{source}:2: document 'b' has no text" in done.stderr


def test_a_stopped_build_goes_on(command, tmp_path, collection, model, monkeypatch):
    from mretrieve.encode.encoder import Encoder

    calls = []

    def stop(self, texts):
        calls.append(len(texts))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode_documents", stop)
        done = command("index", collection, tmp_path / "idx", "--model", model)
    assert (done.status, calls) == (130, [6])
    assert done.stderr == "Stopped. The same command goes on from here.\n"
    assert "is half-built" in command("search", tmp_path / "idx", "cat").stderr
    done = command("index", collection, tmp_path / "idx", "--model", model)
    assert done.stderr == f"Going on with the build in {tmp_path / 'idx.building'}.\n"
    assert done.stdout.startswith(f"{tmp_path / 'idx'}: 6 documents in 4 languages, ")


def test_javas_start_is_made_faster_once_work_with_bm25_has_begun(
    command, tmp_path, collection, model, monkeypatch
):
    class Process:
        def wait(self):
            waited.append(True)

    started, waited = [], []
    place = "mretrieve.index.class_archive.make_class_archive_in_background"
    monkeypatch.setattr(place, lambda: started.append(True) or Process())
    command("index", tmp_path / "nothing", tmp_path / "idx", "--no-dense")
    command("index", collection, tmp_path / "dense", "--model", model, "--no-lexical")
    assert started == []
    command("index", collection, tmp_path / "idx", "--no-dense")
    assert (started, waited) == ([True], [True])

    def fail():
        raise MissingDependencyError("no Java")

    monkeypatch.setattr(place, fail)
    assert command("index", collection, tmp_path / "other", "--no-dense").status == 0


# search


def test_search_prints_hits_as_text(command, small_index):
    done = command("search", small_index, "cat", "--mode", "bm25", "--lang", "en")
    assert (done.status, done.stderr) == (0, "")
    first, title, text, *rest = done.stdout.splitlines()
    assert re.fullmatch(r"1  cat  \[en\]  \d\.\d{4}", first)
    assert (title, text) == ("   Cats", "   The cat sat on the mat.")
    assert len(rest) == 2 and rest[0].startswith("2  dog")


def test_search_prints_both_legs_of_a_hybrid_hit(command, small_index):
    # With hardly any weight on the dense leg, the first of BM25 stays the first.
    done = command("search", small_index, "cat", "--top-k", "1", "--fusion", "minmax:0.01")
    number = r"-?\d\.\d{3} \(#\d\)"
    assert re.match(rf"1  \w+  \[en\]  \d\.\d{{4}}  dense {number}  bm25 {number}\n", done.stdout)


def test_search_prints_json_of_hits(command, small_index):
    done = command("search", small_index, "النهر", "--top-k", "3", "--json")
    assert (done.status, done.stderr) == (0, "")
    hits = [Hit(**one) for one in done.json]
    assert [hit.rank for hit in hits] == [1, 2, 3]
    best = next(hit for hit in hits if hit.bm25_rank == 1)
    assert (best.doc_id, best.title, best.text, best.lang) == (*list(COLLECTION[4].values()),)
    assert "\\u" not in done.stdout


def test_nothing_found_is_no_error(command, small_index):
    done = command("search", small_index, "zzzz", "--mode", "bm25")
    assert (done.status, done.stdout, done.stderr) == (0, "", "Nothing found.\n")
    done = command("search", small_index, "zzzz", "--mode", "bm25", "--json")
    assert (done.status, done.json, done.stderr) == (0, [], "")


def test_more_hits_than_documents_may_be_asked_for(command, small_index):
    assert len(command("search", small_index, "cat", "--top-k", 10**9, "--json").json) == 6


def test_the_querys_language_may_be_given(command, small_index):
    def first(*lang):
        hits = command("search", small_index, "Wald", "--mode", "bm25", "--json", *lang).json
        return hits[0]["lang"] if hits else None

    assert first("--lang", "de") == first("--lang", "auto") == first() == "de"


# run


@pytest.fixture
def queries(tmp_path):
    return write_jsonl(
        tmp_path / "queries.jsonl",
        [
            {"_id": "q1", "text": "cat", "lang": "en"},
            {"_id": "q2", "text": "النهر"},
            {"_id": "q3", "text": "Wald"},
        ],
    )


@pytest.mark.parametrize("name", ["my.trec", "new/folder/my.trec.gz"])
def test_run_ranks_each_query_as_search_does(command, tmp_path, small_index, queries, name):
    done = command("run", small_index, queries, "--output", tmp_path / name, "--top-k", 4, "--tag", "mine")
    assert (done.status, done.stdout) == (0, "")
    assert done.stderr == f"{tmp_path / name}: 12 rows for 3 queries\n"
    ranking = read_run(tmp_path / name)
    assert list(ranking) == ["q1", "q2", "q3"]
    for query_id, text in (("q1", "cat"), ("q2", "النهر"), ("q3", "Wald")):
        hits = command("search", small_index, text, "--top-k", 4, "--json").json
        assert ranking[query_id] == pytest.approx({hit["doc_id"]: hit["score"] for hit in hits})
    packed = (tmp_path / name).read_bytes()
    assert name.endswith(".gz") == (packed[:2] == b"\x1f\x8b")
    assert b" mine\n" in (gzip.decompress(packed) if name.endswith(".gz") else packed)


def test_run_of_one_query(command, tmp_path, small_index):
    (tmp_path / "q.tsv").write_text("q1\tcat\n")
    done = command("run", small_index, tmp_path / "q.tsv", "--output", tmp_path / "r", "--mode", "bm25")
    assert done.stderr == f"{tmp_path / 'r'}: 2 rows for 1 query\n"


def test_run_in_batches_is_the_same_run(command, tmp_path, small_index, queries, monkeypatch):
    command("run", small_index, queries, "--output", tmp_path / "one")
    monkeypatch.setattr("mretrieve.cli.QUERIES_AT_ONCE", 2)
    command("run", small_index, queries, "--output", tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_runs_lang_goes_before_that_of_the_file(command, tmp_path, small_index):
    file = write_jsonl(tmp_path / "q.jsonl", [{"_id": "q", "text": "Wald cat", "lang": "en"}])
    for option, docs in (([], {"cat", "dog"}), (["--lang", "de"], {"hund", "baum"})):
        command("run", small_index, file, "--output", tmp_path / "r", "--mode", "bm25", *option)
        assert set(read_run(tmp_path / "r")["q"]) == docs


def test_a_failed_run_leaves_no_file_and_no_half_one(command, tmp_path, small_index, queries):
    (tmp_path / "r").write_text("old")
    done = command("run", small_index, queries, "--output", tmp_path / "r", "--top-k", 0)
    assert done.status == 2
    assert (tmp_path / "r").read_text() == "old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["queries.jsonl", "r"]


# encode, info


@pytest.mark.parametrize("kind", ["query", "document"])
def test_encode_writes_vectors_and_ids(command, tmp_path, collection, model, kind):
    from mretrieve.encode.encoder import Encoder

    texts = [" ".join(filter(None, [one.get("title"), one["text"]])) for one in COLLECTION]
    if kind == "query":
        texts = [one["text"] for one in COLLECTION]
    done = command("encode", collection, tmp_path / "v.npy", "--as", kind, "--model", model)
    assert (done.status, done.stdout) == (0, "")
    assert done.stderr == f"{tmp_path / 'v.npy'}: 6 vectors of 32 dimensions\n"
    encoder = Encoder(str(model))
    expected = encoder.encode_queries(texts) if kind == "query" else encoder.encode_documents(texts)
    vectors = np.load(tmp_path / "v.npy")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    ids = (tmp_path / "v.ids.txt").read_text(encoding="utf-8").splitlines()
    assert ids == [one["_id"] for one in COLLECTION]


def test_info_tells_what_an_index_holds(command, small_index, model):
    done = command("info", small_index)
    assert (done.status, done.stderr) == (0, "")
    parts, languages = done.stdout.split("\n\n")
    told = dict(line.split(maxsplit=1) for line in parts.splitlines())
    assert told["documents"] == "6"
    assert told["model"].startswith(f"{model} (")
    assert told["dense"] == "Flat, 32 dimensions"
    assert told["bm25"] == "k1 0.9, b 0.4"
    assert re.match(r"Java \d+\S* \(.+\), Lucene \d", told["java"])
    assert [line.split() for line in languages.splitlines()[1:4]] == [
        ["de", "2", "GermanAnalyzer+xlm-r-pieces-1"],
        ["en", "2", "DefaultEnglishAnalyzer+xlm-r-pieces-1"],
        ["ar", "1", "ArabicAnalyzer+xlm-r-pieces-1"],
    ]


def test_info_verifies(command, small_index):
    done = command("info", small_index, "--verify")
    assert re.search(r"^verified   all \d+ files$", done.stdout, re.MULTILINE)
    figures = command("info", small_index, "--verify", "--json").json
    assert figures["verified"] is True
    assert figures["documents"] == 6
    assert figures["index"] == str(small_index)


def test_verbose_tells_where_an_error_comes_from(command, tmp_path):
    quiet, verbose = command("info", tmp_path / "no"), command("--verbose", "info", tmp_path / "no")
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in verbose.stderr
    assert (verbose.status, verbose.stderr.splitlines()[-1]) == (2, quiet.stderr.rstrip())
