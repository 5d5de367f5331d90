import contextlib
import dataclasses
import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.files import files_below, locked
from mretrieve.index.build import build
from mretrieve.index.manifest import EncoderIdentity, read_manifest
from mretrieve.index.open import open_index, verify
from mretrieve.index.plan import PLAN
from mretrieve.index.stages import LexicalOptions
from mretrieve.types import Document

PROGRAM = Path(__file__).with_name("build_program.py")


class StopError(Exception):
    """Breaks a build off in a test."""


def stopping_after(encode, n_calls):
    def stop(texts):
        if len(encode.calls) == n_calls:
            raise StopError
        return encode(texts)

    return stop


def products(path):
    return (path / "dense.faiss").read_bytes(), (path / "documents/documents.arrow").read_bytes()


def run_program(*arguments):
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_built_index_holds_what_was_given(tmp_path, program):
    manifest = program.small_build(tmp_path / "idx", 30)
    index = open_index(tmp_path / "idx", open_lexical=program.FakeSearcher)
    expected = [dataclasses.replace(d, lang=d.lang or "und", place="") for d in program.make_documents(30)]
    assert index.manifest == manifest == read_manifest(tmp_path / "idx")
    assert index.documents.get(range(30)) == expected
    assert {lang: e.documents for lang, e in manifest.languages.items()} == {
        "ar": 8,
        "en": 8,
        "th": 7,
        "und": 7,
    }
    assert manifest.languages["th"].analyzer == "fake-th"
    assert manifest.encoder == EncoderIdentity("fake", "f" * 64, 16, "query: ", "passage: ")
    vectors = program.FakeEncoder()([d.contents for d in expected])
    assert index.dense.search(vectors, 1)[1][:, 0].tolist() == list(range(30))
    lexical_rows, scores = index.lexical("en").search("The river 8", 1)
    assert index.documents.get(index.rows_of("en")[lexical_rows])[0].doc_id == "id-é-8"
    assert scores.tolist() == [3.0]


def test_nothing_is_left_but_what_the_manifest_lists(tmp_path, program):
    manifest = program.small_build(tmp_path / "idx", 30)
    assert files_below(tmp_path / "idx") == sorted([*manifest.files, "manifest.json"])
    assert os.listdir(tmp_path) == ["idx"]


def test_an_index_without_dense_part_and_bm25(tmp_path, program):
    plan = dataclasses.replace(program.make_plan(lexical=False), encoder=None)
    manifest = build(program.make_documents(9), tmp_path / "idx", plan=plan)
    assert list(manifest.files) == ["documents/documents.arrow"]
    assert (manifest.dense, manifest.encoder, manifest.built.faiss) == (None, None, None)
    index = open_index(tmp_path / "idx")
    assert index.dense is None
    assert index.lexical_languages == []
    assert len(index.documents) == 9


def test_progress_tells_of_each_stage(tmp_path, program):
    seen = []
    program.small_build(tmp_path / "idx", 20, on_progress=lambda *told: seen.append(told))
    assert [t for t in seen if t[0] == "documents"] == [
        ("documents", n, total) for n, total in [(8, None), (16, None), (20, None), (20, 20)]
    ]
    assert [t for t in seen if t[0] == "vectors"] == [("vectors", n, 20) for n in (8, 16, 20)]
    assert [t for t in seen if t[0] == "dense"] == [("dense", n, 20) for n in (8, 16, 20)]
    assert [t for t in seen if t[0] == "lexical"][-1] == ("lexical", 20, 20)
    assert seen[-1] == ("files", 6, 6)


class BackwardsEncoder:
    """Takes all shards at once and gives the last one back first; stops after some."""

    def __init__(self, encode, n_shards=None):
        self.encode, self.n_shards, self.closed = encode, n_shards, False

    def encode_shards(self, shards):
        try:
            for n_done, (shard, texts) in enumerate(reversed(list(shards))):
                if n_done == self.n_shards:
                    raise StopError
                yield shard, self.encode(texts)
        finally:
            self.closed = True


def test_shards_may_be_encoded_in_any_order(tmp_path, program):
    first, second = program.FakeEncoder(), program.FakeEncoder()
    stopped, seen = BackwardsEncoder(first, 3), []
    with pytest.raises(StopError):
        program.small_build(tmp_path / "idx", 30, encode=stopped)
    assert stopped.closed
    program.small_build(
        tmp_path / "idx", 30, encode=BackwardsEncoder(second), on_progress=lambda *told: seen.append(told)
    )
    assert (len(first.calls), len(second.calls)) == (3, 1)  # of shards of 8, 8, 8 and 6
    assert [told for told in seen if told[0] == "vectors"] == [("vectors", 22, 30), ("vectors", 30, 30)]
    program.small_build(tmp_path / "whole", 30)
    assert products(tmp_path / "idx") == products(tmp_path / "whole")


def test_a_full_disk_stops_the_encoding_of_many_shards_at_once(tmp_path, program, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    encode = BackwardsEncoder(program.FakeEncoder())
    monkeypatch.setattr("mretrieve.index.stages.np.save", lambda *_: full("a"))
    with pytest.raises(InputError, match="No space left") as caught:
        program.small_build(tmp_path / "idx", 30, encode=encode)
    assert encode.closed and caught  # though the error still holds on to all that was under way


def test_a_broken_source_stops_before_anything_is_encoded(tmp_path, program):
    def source():
        yield from program.make_documents(20)
        raise InputError("c.jsonl:21: not JSON")

    encode = program.FakeEncoder()
    options = {"plan": program.make_plan(source="0+30"), "encode": encode, "lexical": program.make_lexical()}
    with pytest.raises(InputError, match="c.jsonl:21"):
        build(source(), tmp_path / "idx", **options)
    assert encode.calls == []
    build(program.make_documents(30), tmp_path / "idx", **options)
    program.small_build(tmp_path / "whole", 30)
    assert products(tmp_path / "idx") == products(tmp_path / "whole")


def test_a_stopped_build_resumes_and_encodes_nothing_twice(tmp_path, program):
    encode = program.FakeEncoder()
    with pytest.raises(StopError):
        program.small_build(tmp_path / "idx", 30, encode=stopping_after(encode, 2))
    with pytest.raises(InputError, match="idx is half-built .*run the same `mretrieve index` again"):
        open_index(tmp_path / "idx")
    program.small_build(tmp_path / "idx", 30, encode=encode)
    assert len(encode.calls) == len(set(encode.calls)) == 4  # shards of 8, 8, 8 and 6
    program.small_build(tmp_path / "whole", 30)
    assert products(tmp_path / "idx") == products(tmp_path / "whole")


def test_a_resumed_build_does_not_read_the_source_again(tmp_path, program):
    encode = program.FakeEncoder()
    with pytest.raises(StopError):
        program.small_build(tmp_path / "idx", 30, encode=stopping_after(encode, 1))

    def unreadable():
        raise AssertionError("read again")
        yield

    plan = program.make_plan(source="0+30")
    build(unreadable(), tmp_path / "idx", plan=plan, encode=encode, lexical=program.make_lexical())
    assert verify(tmp_path / "idx").documents == 30


@pytest.mark.parametrize(
    ("change", "afresh"),
    [
        ({"model": "other"}, True),
        ({"shard_size": 7}, True),
        ({"faiss": "HNSW8"}, False),
        ({"lexical": False}, False),
    ],
)
def test_another_plan_keeps_only_the_shards_that_it_shares(tmp_path, program, caplog, change, afresh):
    encode = program.FakeEncoder()
    with pytest.raises(StopError):
        program.small_build(tmp_path / "idx", 30, encode=stopping_after(encode, 3))
    second = program.FakeEncoder()
    with caplog.at_level(logging.WARNING):
        program.small_build(tmp_path / "idx", 30, encode=second, **change)
    assert bool(caplog.records) is afresh
    assert all("started afresh" in record.message for record in caplog.records)
    if afresh:
        assert len(second.calls) >= 4
    else:
        assert len(second.calls) == 1
    index = open_index(tmp_path / "idx", open_lexical=program.FakeSearcher)
    assert index.manifest.dense.factory == change.get("faiss", "Flat")
    assert index.lexical_languages == ([] if change.get("lexical") is False else ["ar", "en", "th", "und"])


def test_a_factory_that_fails_costs_no_encoding(tmp_path, program):
    encode = program.FakeEncoder()
    with pytest.raises(InputError, match="could not parse index string Flart"):
        program.small_build(tmp_path / "idx", encode=encode, faiss="Flart")
    assert encode.calls == []
    assert os.listdir(tmp_path) == []
    with pytest.raises(InputError, match="number of clusters"):
        program.small_build(tmp_path / "idx", encode=encode, faiss="IVF64,Flat")
    assert len(encode.calls) == 4
    program.small_build(tmp_path / "idx", encode=encode, faiss="Flat")
    assert len(encode.calls) == 4


def test_overwriting_keeps_the_old_index_until_the_new_is_whole(tmp_path, program):
    program.small_build(tmp_path / "idx", 10)
    seen = []
    program.small_build(
        tmp_path / "idx",
        20,
        overwrite=True,
        on_progress=lambda *_: seen.append(verify(tmp_path / "idx").documents),
    )
    assert set(seen) == {10}
    assert verify(tmp_path / "idx").documents == 20
    assert os.listdir(tmp_path) == ["idx"]


def test_the_same_plan_overwrites_too(tmp_path, program):
    first = program.small_build(tmp_path / "idx", 10)
    encode = program.FakeEncoder()
    second = program.small_build(tmp_path / "idx", 10, encode=encode, overwrite=True)
    assert first.files == second.files
    assert len(encode.calls) == 2


def test_an_existing_index_needs_overwrite(tmp_path, program):
    program.small_build(tmp_path / "idx", 10)
    encode = program.FakeEncoder()
    with pytest.raises(InputError, match="idx exists. Add --overwrite to replace it"):
        program.small_build(tmp_path / "idx", 20, encode=encode)
    assert encode.calls == []
    assert verify(tmp_path / "idx").documents == 10


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["idx", "idx.building"])
def test_a_folder_that_is_not_ours_is_never_touched(tmp_path, program, name, overwrite):
    (tmp_path / name).mkdir()
    (tmp_path / name / "plan.json").write_text('{"wedding": "June"}')
    (tmp_path / name / "thesis.txt").write_text("three years")
    with pytest.raises(InputError, match="is not an index of mretrieve|was not made by mretrieve"):
        program.small_build(tmp_path / "idx", overwrite=overwrite)
    assert os.listdir(tmp_path) == [name]
    assert sorted(os.listdir(tmp_path / name)) == ["plan.json", "thesis.txt"]
    assert (tmp_path / name / "plan.json").read_text() == '{"wedding": "June"}'


def test_a_file_in_the_way_of_the_building_folder_is_left_alone(tmp_path, program):
    (tmp_path / "idx.building").write_text("mine")
    with pytest.raises(InputError, match=r"idx\.building is in the way"):
        program.small_build(tmp_path / "idx")
    assert (tmp_path / "idx.building").read_text() == "mine"


@pytest.mark.parametrize(("n_read", "is_kept"), [(7, False), (8, True)])  # 8 make a shard
def test_a_source_that_breaks_leaves_only_what_is_of_use(tmp_path, program, n_read, is_kept):
    def broken():
        yield from program.make_documents(n_read)
        raise InputError("corpus.jsonl:9: broken")

    plan = program.make_plan(lexical=False)
    with pytest.raises(InputError, match="broken"):
        program.build(broken(), tmp_path / "idx", plan=plan, encode=program.FakeEncoder())
    assert (tmp_path / "idx.building").exists() == is_kept


def test_an_empty_building_folder_of_a_killed_start_is_used(tmp_path, program):
    (tmp_path / "idx.building").mkdir()
    (tmp_path / "idx.building" / f"{PLAN}.partial").write_text("{")
    program.small_build(tmp_path / "idx")
    assert verify(tmp_path / "idx").documents == 30
    assert os.listdir(tmp_path) == ["idx"]


def test_a_link_to_an_index_stays_a_link(tmp_path, program):
    (tmp_path / "disk").mkdir()
    program.small_build(tmp_path / "disk" / "real", 10)
    (tmp_path / "idx").symlink_to(tmp_path / "disk" / "real")
    program.small_build(tmp_path / "idx", 20, overwrite=True)
    assert (tmp_path / "idx").is_symlink()
    assert verify(tmp_path / "disk" / "real").documents == 20
    assert os.listdir(tmp_path / "disk") == ["real"]


def test_folders_above_the_index_are_made(tmp_path, program, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program.small_build(Path("a/b/../idx é"))
    assert verify(tmp_path / "a" / "idx é").documents == 30


def test_a_source_without_documents_is_told(tmp_path, program):
    with pytest.raises(InputError, match="The source holds no documents"):
        program.small_build(tmp_path / "idx", 0)
    assert not (tmp_path / "idx").exists()


def test_two_builds_at_once_are_refused(tmp_path, program):
    with locked(tmp_path / "idx"), pytest.raises(InputError, match="Another process is building"):
        program.small_build(tmp_path / "idx")
    program.small_build(tmp_path / "idx")


def test_a_file_where_a_folder_is_needed_is_told(tmp_path, program):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="Cannot write .*file.*Choose a folder that you may write"):
        program.small_build(tmp_path / "file" / "idx")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path, program):
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(InputError, match="Cannot write .*Permission denied"):
        program.small_build(tmp_path / "shut" / "idx")


def test_encode_and_lexical_must_fit_the_plan(tmp_path, program):
    with pytest.raises(ValueError, match="exactly when the plan has such a part"):
        build([], tmp_path / "idx", plan=program.make_plan(), lexical=program.make_lexical())
    with pytest.raises(ValueError, match="exactly when the plan has such a part"):
        build([], tmp_path / "idx", plan=program.make_plan(), encode=program.FakeEncoder())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda v: v[:, :4], r"float32 \(8, 16\), but returned float32 \(8, 4\)"),
        (lambda v: v[:-1], r"returned float32 \(7, 16\)"),
        (lambda v: v.astype(np.float64), "returned float64"),
        (lambda v: 2 * v, "unit vectors"),
        (lambda v: v * np.nan, "unit vectors"),
    ],
)
def test_wrong_vectors_are_an_error_not_an_index(tmp_path, program, bad, message):
    encode = program.FakeEncoder()
    with pytest.raises(ValueError, match=message):
        program.small_build(tmp_path / "idx", encode=lambda texts: bad(encode(texts)))
    assert not (tmp_path / "idx").exists()


@pytest.mark.parametrize("max_file_bytes", [1500, 5_000, 20_000])
def test_a_full_disk_is_one_sentence_and_the_build_resumes(tmp_path, max_file_bytes):
    """Files of limited size stand for a full disk: a shard, the document file, or FAISS meets the limit."""
    log = tmp_path / "log"
    arguments = [tmp_path / "idx", "--documents", 300, "--dim", 32, "--shard-size", 16, "--log", log]
    stopped = run_program(*arguments, "--max-file-bytes", max_file_bytes)
    assert stopped.returncode == 1
    assert stopped.stderr.startswith("InputError: No space left for ")
    assert "Free some space and run the same command again" in stopped.stderr
    assert not any(p.name.endswith(".partial") for p in tmp_path.rglob("*"))
    finished = run_program(*arguments)
    assert finished.returncode == 0, finished.stderr
    calls = log.read_text("utf-8").splitlines()
    assert len(calls) == len(set(calls)) == 19
    assert verify(tmp_path / "idx").documents == 300


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB, and a function that gives it 32."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount a file system here")
    yield place, lambda: subprocess.run(["mount", "-o", "remount,size=32m", str(place)], check=True)
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("dim", [256, 16])
def test_a_disk_that_is_really_full(small_disk, program, dim):
    """With 256 dimensions the vectors fill the disk, with 16 the FAISS file or Lucene's do."""
    place, give_room = small_disk
    encode = program.FakeEncoder(dim)
    options = {"encode": encode, "dim": dim, "shard_size": 64}
    with pytest.raises(InputError, match=r"No space left for .*idx.*Free some space"):
        program.small_build(place / "idx", 5000, **options)
    give_room()
    program.small_build(place / "idx", 5000, **options)
    # A shard that could not be written whole is encoded again, no other.
    assert len(encode.calls) - len(set(encode.calls)) <= 1
    assert verify(place / "idx").documents == 5000


@pytest.fixture
def lucene():
    """BM25 by Lucene, in place of the made-up one."""
    from mretrieve.index.jvm import find_all
    from mretrieve.index.lucene import LexicalIndex, LexicalWriter

    try:
        find_all()
    except MissingDependencyError as error:
        pytest.skip(str(error))

    def cut(texts):
        return [text.split() for text in texts]

    def open_lexical(folder, lang):
        return LexicalIndex(folder, lang, cut=cut)

    return LexicalOptions(lambda folder, lang: LexicalWriter(folder, lang, cut=cut), str), open_lexical


def test_lucene_finds_rows_of_its_language(tmp_path, program, lucene):
    write, open_lexical = lucene
    plan = dataclasses.replace(program.make_plan(), encoder=None)
    manifest = build(program.make_documents(40), tmp_path / "idx", plan=plan, lexical=write)
    assert files_below(tmp_path / "idx") == sorted([*manifest.files, "manifest.json"])
    index = open_index(tmp_path / "idx", open_lexical=open_lexical)
    for lang, query, doc_id in [
        ("en", "rivers 8", "id-é-8"),
        ("ar", "النهر 5", "id-é-5"),
        ("th", "ภูเขา 2", "id-é-2"),
    ]:
        rows, scores = index.lexical(lang).search(query, 10)
        assert index.documents.doc_ids(index.rows_of(lang)[rows])[0] == doc_id
        assert (scores[:-1] >= scores[1:]).all()
    verify(tmp_path / "idx")


def test_a_disk_that_is_full_when_lucene_writes(small_disk, program, lucene):
    place, give_room = small_disk
    write, open_lexical = lucene

    def fill(stage, done, total):
        if (stage, done) == ("documents", total):
            with contextlib.suppress(OSError), open(place / "filler", "wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass

    plan = dataclasses.replace(program.make_plan(), encoder=None)
    options = {"plan": plan, "lexical": write}
    with pytest.raises(InputError, match=r"No space left for .*idx.*Free some space"):
        build(program.make_documents(40), place / "idx", on_progress=fill, **options)
    (place / "filler").unlink()
    give_room()
    build(program.make_documents(40), place / "idx", **options)
    index = open_index(place / "idx", open_lexical=open_lexical)
    assert len(index.lexical("en").search("river", 20)[0]) == 10


@pytest.mark.slow
def test_100_000_documents_stay_under_2_5_gigabytes(tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("reads /proc/self/status")
    arguments = ["--documents", 100_000, "--dim", 384, "--shard-size", 1024, "--random", "--faiss", "auto"]
    finished = run_program(tmp_path / "idx", *arguments)
    assert finished.returncode == 0, finished.stderr
    peak_kb = int(finished.stdout.split("peak_kb ")[1])
    assert peak_kb < 2_500_000
    manifest = verify(tmp_path / "idx")
    assert manifest.documents == 100_000
    assert manifest.files["dense.faiss"].n_bytes > 100_000 * 384 * 4
    assert Document("id-é-99999", "?? 99999", "Título", "und") in open_index(tmp_path / "idx").documents.get(
        [99_999]
    )
