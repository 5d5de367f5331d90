"""What the command line says to bad input: one sentence that says what to do, status 2, no traceback."""

import errno
import json
import os
import shutil

import pytest

from tests.conftest import make_checkpoint, write_jsonl


@pytest.fixture
def refused(command):
    """A function that runs a command which is to fail: what it says after `Error: `."""

    def run(*arguments):
        done = command(*arguments)
        assert (done.status, done.stdout) == (2, "")
        assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.rstrip()[-1] in ".?"
        return done.stderr.removeprefix("Error: ").rstrip()

    return run


@pytest.fixture
def copy(small_index, tmp_path):
    """The small index, to be changed."""
    return shutil.copytree(small_index, tmp_path / "copy")


def lines(path, *texts):
    path.write_bytes(b"".join(text.encode() if isinstance(text, str) else text for text in texts))
    return path


def test_missing_source(refused, tmp_path):
    said = refused("index", tmp_path / "none", tmp_path / "idx")
    assert said.startswith(f"There is no file or folder {tmp_path / 'none'}. Give a BEIR folder")
    assert list(tmp_path.iterdir()) == []


def test_empty_sources(refused, tmp_path):
    assert "is empty: there are no documents" in refused(
        "index", lines(tmp_path / "a.jsonl"), tmp_path / "idx"
    )
    (tmp_path / "folder").mkdir()
    assert "holds nothing that can be read. Give" in refused("index", tmp_path / "folder", tmp_path / "idx")
    blank = lines(tmp_path / "b.jsonl", "\n\n")
    assert "holds no documents" in refused("index", blank, tmp_path / "idx", "--no-dense")


def test_unknown_format(refused, tmp_path):
    assert "has no known format. Give" in refused("index", lines(tmp_path / "a.docx", "x"), tmp_path / "idx")


def test_duplicate_ids(refused, tmp_path):
    source = lines(tmp_path / "a.jsonl", '{"id": 1, "text": "x"}\n', "\n", '{"id": 1, "text": "y"}\n')
    said = refused("index", source, tmp_path / "idx", "--no-dense")
    assert f"{source}:3: the id '1' stands at {source}:1 already" in said
    assert "--on-error skip" in said


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"id": "b", "text": " "}', "document 'b' has no text"),
        (b'{"id": "b", "text": "caf\xe9"}', "not UTF-8: byte 0xe9 at offset"),
        ('{"id": "b", "text": ', "JSON"),
        ('{"id": "b"}', "no text: looked for text, contents"),
        ('{"text": "b"}', "no id: looked for _id, id"),
        ('{"id": "b", "text": "y", "lang": "xx"}', "Unknown language 'xx'"),
    ],
)
def test_a_broken_line_in_the_middle(refused, tmp_path, line, what):
    source = lines(tmp_path / "a.jsonl", '{"id": "a", "text": "x"}\n', line, '\n{"id": "c", "text": "z"}\n')
    said = refused("index", source, tmp_path / "idx", "--no-dense")
    assert said.startswith(f"{source}:2: ") and what in said and "--on-error skip" in said
    assert not (tmp_path / "idx").exists()


@pytest.mark.parametrize("query", ["", "  ", "\t\n"])
def test_query_of_only_spaces(refused, small_index, query):
    assert refused("search", small_index, query) == "The query is empty: give some text to search for."


def test_query_that_is_not_utf8(refused, small_index):
    assert "is not valid Unicode" in refused("search", small_index, os.fsdecode(b"caf\xff"))


@pytest.mark.parametrize("top_k", ["0", "-3"])
@pytest.mark.parametrize("name", ["search", "run"])
def test_too_small_top_k(refused, small_index, tmp_path, name, top_k):
    queries = lines(tmp_path / "q.tsv", "q\tcat\n")
    more = {"search": ["cat"], "run": [queries, "--output", tmp_path / "r"]}[name]
    said = refused(name, small_index, *more, "--top-k", top_k)
    assert said == f"top_k is {top_k}, but it should be at least 1: ask for one document or more."


def test_unknown_language(refused, small_index, collection, tmp_path):
    expected = "Unknown language 'xx'. Did you mean 'xh' (Xhosa)? Use an ISO 639-1 code such as en, sw or zh."
    queries = lines(tmp_path / "q.tsv", "q\tcat\n")
    assert refused("search", small_index, "cat", "--lang", "xx") == expected
    assert refused("index", collection, tmp_path / "idx", "--lang", "xx") == expected
    assert refused("run", small_index, queries, "--output", tmp_path / "r", "--lang", "xx") == expected


def test_unknown_model(refused, small_index, collection, tmp_path):
    expected = "Unknown model 'e5-smal'. Did you mean e5-small? Give one of e5-small, a"
    assert refused("index", collection, tmp_path / "idx", "--model", "e5-smal").startswith(expected)
    assert refused("search", small_index, "cat", "--model", "e5-smal").startswith(expected)
    encode = ("encode", collection, tmp_path / "v.npy", "--as", "query", "--model", "e5-smal")
    assert refused(*encode).startswith(expected)


def test_another_model_than_the_indexs(refused, small_index, model, tmp_path):
    (tmp_path / "other").mkdir()
    other = make_checkpoint(tmp_path / "other", seed=2)
    said = refused("search", small_index, "cat", "--model", other)
    assert said.startswith(f"{small_index} was built with {model} (fingerprint ")
    assert f"search with --model {model}, or build the index again with --model {other} --overwrite" in said


def test_a_model_that_has_gone(refused, command, collection, tmp_path):
    (tmp_path / "model").mkdir()
    model = make_checkpoint(tmp_path / "model", seed=3)
    command("index", collection, tmp_path / "idx", "--model", model)
    command("index", collection, tmp_path / "dense", "--model", model, "--no-lexical")
    model.rename(tmp_path / "moved")
    said = refused("search", tmp_path / "idx", "cat")
    assert said.startswith(f"{tmp_path / 'idx'} was built with {model}, which cannot be used now: ")
    assert "--model" in said and "--mode bm25" in said
    assert "--mode bm25" not in refused("search", tmp_path / "dense", "cat")
    assert command("search", tmp_path / "idx", "cat", "--mode", "bm25").status == 0
    assert command("search", tmp_path / "idx", "cat", "--model", tmp_path / "moved").status == 0


def test_a_model_given_by_a_relative_path_is_found_from_everywhere(
    command, collection, tmp_path, monkeypatch
):
    (tmp_path / "model").mkdir()
    make_checkpoint(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    command("index", collection, "idx", "--model", "model")
    monkeypatch.chdir("/")
    assert command("search", tmp_path / "idx", "cat", "--mode", "dense").status == 0


def test_half_built(refused, copy):
    building = copy.with_name("copy.building")
    copy.rename(building)
    assert refused("search", copy, "cat") == (
        f"{copy} is half-built (in {building}): run the same `mretrieve index` again to finish it."
    )


def test_newer_format(refused, copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format_version": 99}))
    for command in (["search", copy, "cat"], ["info", copy], ["info", copy, "--verify"]):
        assert "is of index format 99, newer than this mretrieve reads" in refused(*command)


@pytest.mark.parametrize("name", ["dense.faiss", "documents/documents.arrow", "lexical/en/analyzer.json"])
def test_corrupted_file(refused, copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    expected = f"{copy / name} is damaged: its SHA-256 is not that of manifest.json. Build the index again"
    for command in (["search", copy, "cat"], ["info", copy], ["info", copy, "--verify"]):
        assert refused(*command).startswith(expected)
    (copy / name).unlink()
    assert refused("search", copy, "cat").startswith(f"{copy / name} is missing")


def test_index_exists(refused, copy, collection):
    before = (copy / "manifest.json").read_bytes()
    said = refused("index", collection, copy, "--no-dense")
    assert said == f"{copy} exists. Add --overwrite to replace it, or choose another name."
    assert (copy / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_folder_that_is_no_index_is_never_deleted(refused, tmp_path, collection, overwrite):
    (tmp_path / "photos").mkdir()
    lines(tmp_path / "photos" / "manifest.json", "{}")
    lines(tmp_path / "file.txt", "mine")
    (tmp_path / "empty").mkdir()
    for name in ("photos", "file.txt", "empty", "."):
        said = refused("index", collection, tmp_path / name, "--no-dense", *overwrite)
        assert "exists and is not an index of mretrieve, so it will not be replaced" in said
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["empty", "file.txt", "photos"]
    assert (tmp_path / "photos" / "manifest.json").read_text() == "{}"


def test_a_foreign_file_in_an_index_is_never_deleted(refused, copy, collection):
    lines(copy / "notes.txt", "mine")
    said = refused("index", collection, copy, "--no-dense", "--overwrite")
    assert "holds notes.txt, which is no part of the index" in said
    assert (copy / "notes.txt").read_text() == "mine"


def test_no_index(refused, tmp_path, small_index):
    for name in ("search", "info"):
        arguments = ["cat"] if name == "search" else []
        assert refused(name, tmp_path / "no", *arguments) == (
            f"There is no index {tmp_path / 'no'}. Build one with `mretrieve index SOURCE {tmp_path / 'no'}`."
        )
        assert refused(name, tmp_path, *arguments).startswith(f"{tmp_path} is not an index")
    near = small_index.with_name("smal")
    assert f"Did you mean {small_index}?" in refused("search", near, "cat")


def test_an_index_without_the_part_that_is_asked_for(refused, command, collection, model, tmp_path):
    command("index", collection, tmp_path / "dense", "--model", model, "--no-lexical")
    command("index", collection, tmp_path / "bm25", "--no-dense")
    for mode in ("bm25", "hybrid"):
        assert "built with --no-lexical" in refused("search", tmp_path / "dense", "cat", "--mode", mode)
    for mode in ("dense", "hybrid"):
        assert "built with --no-dense" in refused("search", tmp_path / "bm25", "cat", "--mode", mode)
    assert "built with --no-dense" in refused("search", tmp_path / "bm25", "cat", "--model", model)


def test_choices_that_exclude_each_other(refused, collection, tmp_path):
    said = refused("index", collection, tmp_path / "idx", "--no-dense", "--no-lexical")
    assert said.startswith("An index needs a dense or a lexical part: leave out --no-dense or --no-lexical")
    for option in (["--model", "e5-small"], ["--faiss", "Flat"], ["--dtype", "fp32"]):
        said = refused("index", collection, tmp_path / "idx", "--no-dense", *option)
        assert f"leave out {option[0]}" in said


@pytest.mark.parametrize(
    ("recipe", "what"),
    [
        ("encodr: {}", "encodr is not a key of recipes (did you mean encoder?); known are collection"),
        ("bm25: {k1: x}", "bm25.k1: input should be a valid number, unable to parse"),
        ("a: b: c", "is not valid YAML"),
    ],
)
def test_wrong_recipes(refused, collection, tmp_path, recipe, what):
    path = lines(tmp_path / "r.yaml", recipe)
    said = refused("index", collection, tmp_path / "idx", "--recipe", path)
    assert said.startswith(f"The recipe {path}") and what in said
    missing = refused("index", collection, tmp_path / "idx", "--recipe", tmp_path / "no.yaml")
    assert missing == f"The recipe {tmp_path / 'no.yaml'} cannot be read: No such file or directory."


def test_wrong_faiss_factory_and_fusion(refused, collection, small_index, model, tmp_path):
    said = refused("index", collection, tmp_path / "idx", "--model", model, "--faiss", "Nope")
    assert "FAISS cannot build --faiss 'Nope'" in said and "Choose auto or" in said
    assert "Unknown fusion 'nope'. Choose from" in refused("search", small_index, "cat", "--fusion", "nope")


@pytest.mark.parametrize(
    ("measures", "what"),
    [("nDGC@10", "Did you mean nDCG@10?"), ("R", "needs a cutoff"), (" ", "No measure was given")],
)
def test_wrong_measures(refused, tmp_path, measures, what):
    run, qrels = lines(tmp_path / "r", "q Q0 d 1 1 t\n"), lines(tmp_path / "q", "q 0 d 1\n")
    assert what in refused("evaluate", run, "--qrels", qrels, "--measures", measures)


def test_runs_and_qrels_that_do_not_fit(refused, tmp_path):
    run, qrels = lines(tmp_path / "r", "q Q0 d 1 1 t\n"), lines(tmp_path / "q", "other 0 d 1\n")
    assert "No query of the run is judged" in refused("evaluate", run, "--qrels", qrels)
    assert f"{run}:1: 6 columns" in refused("evaluate", run, "--qrels", run)
    assert f"There is no file or folder {tmp_path / 'no'}" in refused(
        "evaluate", tmp_path / "no", "--qrels", qrels
    )
    bad = lines(tmp_path / "bad", "q Q0 d 1 1 t\n", "q Q0 e 2 x t\n")
    assert f"{bad}:2: the score 'x' is not a finite number" in refused("evaluate", bad, "--qrels", qrels)


def test_queries_that_cannot_be_used(refused, small_index, tmp_path):
    out = ["--output", tmp_path / "r"]
    assert "There is no file" in refused("run", small_index, tmp_path / "no", *out)
    double = lines(tmp_path / "q.tsv", "q\tcat\nq\tdog\n")
    assert f"{double}:2: the id 'q' stands in line 1 already" in refused("run", small_index, double, *out)
    queries = lines(tmp_path / "ok.tsv", "q\tcat\n")
    assert "The tag 'a b' is empty or holds white space" in refused(
        "run", small_index, queries, *out, "--tag", "a b"
    )
    assert not (tmp_path / "r").exists()


def test_vectors_that_may_not_be_written(refused, command, collection, model, tmp_path):
    encode = ["encode", collection, tmp_path / "v.npy", "--as", "document", "--model", model]
    assert command(*encode).status == 0
    assert refused(*encode).startswith(f"{tmp_path / 'v.npy'} exists. Choose another name, or replace it")
    assert command(*encode, "--overwrite").status == 0
    (tmp_path / "v.npy").unlink()
    assert refused(*encode).startswith(f"{tmp_path / 'v.ids.txt'} exists.")
    encode[2] = tmp_path / "v.txt"
    assert "give a name that ends in .npy" in refused(*encode)
    (tmp_path / "f.npy").mkdir()
    encode[2] = tmp_path / "f.npy"
    assert refused(*encode, "--overwrite") == f"{tmp_path / 'f.npy'} is a folder: choose another name."


def test_targets_below_a_file(refused, collection, model, small_index, tmp_path):
    file = lines(tmp_path / "file", "x")
    queries = lines(tmp_path / "q.tsv", "q\tcat\n")
    assert f"{file}" in refused("index", collection, file / "idx", "--no-dense")
    assert f"{file}" in refused("run", small_index, queries, "--output", file / "r")
    assert f"{file}" in refused("encode", collection, file / "v.npy", "--as", "document", "--model", model)
    assert file.read_text() == "x"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device: free some space and"),
        (OSError(errno.EACCES, "Permission denied", "/x/y"), "Cannot use /x/y: Permission denied. Check"),
        (OSError(errno.EIO, "Input/output error"), "Reading or writing failed: Input/output error."),
        (OSError("odd"), "Reading or writing failed: odd."),
        (MemoryError(), "There is not enough memory for this."),
    ],
)
def test_errors_of_the_system(refused, collection, small_index, tmp_path, monkeypatch, error, said):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr("mretrieve.indexing.build_index", fail)
    monkeypatch.setattr("mretrieve.rank.retriever.Retriever.search", fail)
    monkeypatch.setattr("mretrieve.index.open.verify", fail)
    assert refused("index", collection, tmp_path / "idx").startswith(said)
    assert refused("search", small_index, "cat").startswith(said)
    assert refused("info", small_index, "--verify").startswith(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nope"], "No such option: --nope"),
        (["serch"], "No such command 'serch'"),
        (["search"], "Missing argument 'INDEX'"),
        (["search", "i", "q", "--mode", "x"], "'--mode'"),
        (["search", "i", "q", "--top-k", "x"], "'--top-k'"),
        (["run", "i", "q"], "Missing option '--output'"),
        (["encode", "s", "o.npy"], "Missing option '--as'"),
        (["index", "s", "i", "--on-error", "x"], "'--on-error'"),
    ],
)
def test_wrong_usage(command, arguments, said):
    done = command(*arguments)
    assert (done.status, done.stdout) == (2, "")
    assert said in done.stderr and "Traceback" not in done.stderr


def test_a_source_that_may_not_be_read(refused, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    source = write_jsonl(tmp_path / "a.jsonl", [{"id": 1, "text": "x"}])
    source.chmod(0)
    assert "may not be read by this user" in refused("index", source, tmp_path / "idx", "--no-dense")
