import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.indexing import build_index
from mretrieve.rank import retriever as module
from mretrieve.rank.fusion import Fusion, Ranking
from mretrieve.rank.retriever import Retriever
from mretrieve.types import Query
from tests.conftest import COLLECTION, make_checkpoint, write_jsonl

QUERIES = ["the cat in the garden", "alte Bäume im Wald", "النهر", "แม่น้ำ", "zzz"]
IDS = [record["_id"] for record in COLLECTION]


@pytest.fixture(scope="module")
def retriever(small_index):
    return Retriever(small_index)


@pytest.fixture(scope="module")
def parts(tmp_path_factory, collection, model):
    """Two indexes: without BM25, and without vectors."""
    folder = tmp_path_factory.mktemp("parts")
    build_index(collection, folder / "dense", model=str(model), lexical=False)
    build_index(collection, folder / "bm25", dense=False)
    return Retriever(folder / "dense"), Retriever(folder / "bm25")


def test_dense_scores_are_inner_products(retriever, model):
    encoder = Encoder(str(model))
    texts = [" ".join(filter(None, [one.get("title"), one["text"]])) for one in COLLECTION]
    scores = encoder.encode_documents(texts) @ encoder.encode_queries(["a cat"])[0]
    hits = retriever.search("a cat", mode="dense")
    assert [hit.doc_id for hit in hits] == [IDS[row] for row in np.argsort(-scores, kind="stable")]
    assert [hit.score for hit in hits] == pytest.approx(np.sort(scores)[::-1], abs=1e-4)
    assert all(hit.dense_score == hit.score and hit.dense_rank == hit.rank for hit in hits)
    assert {hit.bm25_rank for hit in hits} == {hit.bm25_score for hit in hits} == {None}


def test_hits_are_the_documents_themselves(retriever):
    [hit] = retriever.search("النهر", mode="bm25")
    assert (hit.doc_id, hit.title, hit.text, hit.lang) == tuple(COLLECTION[4].values())
    assert (hit.rank, hit.bm25_rank, hit.dense_rank, hit.dense_score) == (1, 1, None, None)
    assert hit.score == hit.bm25_score > 0


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25", None])
def test_one_query_or_many_or_only_ranked(retriever, mode):
    many = list(retriever.search_many(QUERIES, top_k=4, mode=mode))
    ranked = retriever.rank([Query(str(n), text) for n, text in enumerate(QUERIES)], top_k=4, mode=mode)
    for text, hits, one in zip(QUERIES, many, ranked, strict=True):
        alone = retriever.search(text, top_k=4, mode=mode)
        assert [hit.doc_id for hit in alone] == [hit.doc_id for hit in hits] == retriever.doc_ids(one.ranking)
        assert [hit.score for hit in alone] == pytest.approx([hit.score for hit in hits], abs=1e-5)
        assert [hit.score for hit in hits] == one.ranking.scores.tolist()
        assert [hit.rank for hit in alone] == list(range(1, len(alone) + 1))


@pytest.mark.parametrize("fusion", ["rrf:60", "minmax:0.3", "zscore:0.5"])
def test_hybrid_hits_carry_the_legs_that_they_were_made_of(small_index, fusion):
    retriever = Retriever(small_index, fusion=fusion)
    for text in QUERIES[:4]:
        legs = {
            mode: {hit.doc_id: hit for hit in retriever.search(text, mode=mode)} for mode in ("dense", "bm25")
        }
        hits = retriever.search(text, mode="hybrid")
        assert {hit.doc_id for hit in hits} == set(IDS)
        for hit in hits:
            dense, bm25 = legs["dense"].get(hit.doc_id), legs["bm25"].get(hit.doc_id)
            assert (hit.dense_rank, hit.bm25_rank) == (dense and dense.rank, bm25 and bm25.rank)
            assert hit.dense_score == pytest.approx(dense.score, abs=1e-6)
            assert hit.bm25_score == (bm25 and bm25.score)
        rankings = [
            Ranking(
                np.array([IDS.index(doc_id) for doc_id in leg], np.int64),
                np.array([hit.score for hit in leg.values()], np.float32),
            )
            for leg in legs.values()
        ]
        lang = hits[[hit.bm25_rank for hit in hits].index(1)].lang
        seen = np.array([COLLECTION[row]["lang"] == lang for row in rankings[0].rows])
        expected = Fusion.parse(fusion).fuse(*rankings, seen=seen)
        assert [hit.doc_id for hit in hits] == [IDS[row] for row in expected.rows]
        assert [hit.score for hit in hits] == pytest.approx(expected.scores.tolist(), abs=1e-5)


def test_the_index_says_how_legs_are_joined(small_index, tmp_path, collection, model):
    assert str(Retriever(small_index).fusion) == str(Fusion())
    assert str(Retriever(small_index, fusion="rrf:10").fusion) == "rrf:10"


def test_bm25_searches_the_querys_language_and_the_others_only_for_want_of_it(retriever):
    def found(text, lang=None):
        return [hit.doc_id for hit in retriever.search(text, mode="bm25", lang=lang)]

    assert found("cat Wald", lang="en") == ["cat", "dog"]
    assert set(found("cat Wald", lang="de")) == {"hund", "baum"}
    assert found("النهر", lang="en") == ["نهر"]  # no English document has it
    assert found("cat", lang="sw") == ["cat", "dog"]  # the index holds no Swahili
    assert found("zzz") == []
    assert found("Cat", lang="eng") == found("cat", lang="en-GB") == ["cat", "dog"]


def test_fewer_or_more_hits_than_documents(retriever):
    assert [hit.doc_id for hit in retriever.search("cat", top_k=2)] == [
        hit.doc_id for hit in retriever.search("cat", top_k=10**12)[:2]
    ]
    assert len(retriever.search("cat", top_k=10**12)) == len(IDS)


def test_no_query_is_no_work(retriever):
    for mode in ("hybrid", "dense", "bm25"):
        assert list(retriever.search_many([], mode=mode)) == []


def test_eight_threads_search_at_once(small_index):
    alone = {text: Retriever(small_index).search(text) for text in QUERIES}
    retriever = Retriever(small_index)  # nothing is loaded yet: the first searches meet
    with ThreadPoolExecutor(8) as pool:
        work = [(text, pool.submit(retriever.search, text)) for text in QUERIES * 40]
        for text, hits in work:
            assert hits.result() == alone[text]


def test_the_model_is_loaded_once_by_threads_that_meet(small_index, monkeypatch):
    from mretrieve.encode.onnx import OnnxBert

    loaded = []
    load = OnnxBert.__init__

    def count(self, *arguments, **options):
        loaded.append(True)
        load(self, *arguments, **options)

    monkeypatch.setattr(OnnxBert, "__init__", count)
    retriever = Retriever(small_index)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: retriever.search("cat", mode="dense"), range(16)))
    assert loaded == [True]


def test_the_default_is_the_most_that_the_index_allows(retriever, parts):
    def legs(one):
        [hit, *_] = one.search("the cat", lang="en", top_k=1)
        return hit.dense_rank is not None, hit.bm25_rank is not None

    assert legs(retriever) == (True, True)
    assert [legs(part) for part in parts] == [(True, False), (False, True)]


def test_without_java_the_default_is_dense_and_told_once(small_index, monkeypatch, caplog):
    def fail():
        raise MissingDependencyError("BM25 needs Lucene, which is not installed.")

    monkeypatch.setattr(module, "find_all", fail)
    retriever = Retriever(small_index)
    with caplog.at_level(logging.WARNING, "mretrieve"):
        for _ in range(3):
            assert retriever.search("cat")[0].bm25_rank is None
    assert caplog.messages == ["Searching without BM25. BM25 needs Lucene, which is not installed."]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"query": ""}, "The query is empty"),
        ({"query": " \u3000\n"}, "The query is empty"),
        ({"query": "half \ud83d"}, r"'half \\ud83d' is not valid Unicode"),
        ({"query": "cat", "top_k": 0}, "top_k is 0, but it should be at least 1"),
        ({"query": "cat", "mode": "sparse"}, "Unknown mode 'sparse'. Choose from: hybrid, dense, bm25."),
        ({"query": "cat", "lang": "xx"}, "Unknown language 'xx'"),
    ],
)
def test_bad_arguments(retriever, arguments, fault):
    with pytest.raises(InputError, match=fault):
        retriever.search(**arguments)


def test_a_string_is_no_list_of_queries(retriever):
    with pytest.raises(InputError, match="Give a list of queries"):
        retriever.search_many("cat")


def test_the_leg_that_an_index_lacks(parts, model):
    dense, bm25 = parts
    for mode in ("bm25", "hybrid"):
        with pytest.raises(InputError, match="was built with --no-lexical"):
            dense.search("cat", mode=mode)
    for mode in ("dense", "hybrid"):
        with pytest.raises(InputError, match="was built with --no-dense"):
            bm25.search("cat", mode=mode)
    with pytest.raises(InputError, match="was built with --no-dense"):
        Retriever(bm25.index.path, model=str(model))


def test_other_weights_never_answer(small_index, tmp_path):
    other = make_checkpoint(tmp_path, seed=7)
    retriever = Retriever(small_index, model=str(other))
    for _ in range(2):
        for mode in ("dense", "hybrid"):
            with pytest.raises(InputError, match="was built with .* but .* was asked for"):
                retriever.search("cat", mode=mode)
    assert retriever.search("cat", mode="bm25")


def test_a_copy_of_the_weights_answers(small_index, tmp_path, retriever):
    copy = make_checkpoint(tmp_path)
    assert Retriever(small_index, model=str(copy)).search("cat") == retriever.search("cat")


def test_settings_that_cannot_be_used(small_index):
    with pytest.raises(InputError, match="Unknown fusion"):
        Retriever(small_index, fusion="nope")
    with pytest.raises(InputError, match="Unknown model"):
        Retriever(small_index, model="nope")
    retriever = Retriever(small_index, device="tpu")
    with pytest.raises(InputError, match=r"cannot be used now: Unknown device 'tpu'"):
        retriever.search("cat")
    assert retriever.search("cat", mode="bm25")


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
@pytest.mark.parametrize("languages", [["de"], ["de", "ar"], ["deu", "ar-EG", "sv"]])
def test_only_documents_in_the_languages_asked_for_are_found(retriever, mode, languages):
    wanted = {"de"} if languages == ["de"] else {"de", "ar"}
    expected = {record["_id"] for record in COLLECTION if record["lang"] in wanted}
    for query in ("alte Bäume im Wald", "the cat in the garden"):
        hits = retriever.search(query, mode=mode, languages=languages)
        assert {hit.lang for hit in hits} <= wanted
        if mode != "bm25":
            assert {hit.doc_id for hit in hits} == expected


def test_a_filter_gives_the_scores_that_the_documents_have_without_it(retriever):
    everything = {hit.doc_id: hit for hit in retriever.search("der Hund im Wald", lang="de", top_k=6)}
    for hit in retriever.search("der Hund im Wald", lang="de", languages=["de"]):
        assert hit.dense_score == pytest.approx(everything[hit.doc_id].dense_score, abs=1e-6)
        assert hit.bm25_score == everything[hit.doc_id].bm25_score


def test_bm25_searches_the_filtered_languages_where_the_querys_own_is_not_among_them(retriever):
    hits = retriever.search("cat Wald النهر", mode="bm25", lang="en", languages=["de", "ar"])
    assert {hit.doc_id for hit in hits} == {"hund", "baum", "نهر"}
    assert retriever.search("cat", mode="bm25", lang="en", languages=["de"]) == []


def test_all_languages_are_no_filter_and_none_that_the_index_has_find_nothing(retriever):
    languages = ["en", "de", "ar", "th", "sw"]
    assert retriever.search("the cat", languages=languages) == retriever.search("the cat")
    for mode in ("hybrid", "dense", "bm25"):
        assert retriever.search("the cat", mode=mode, languages=["sw"]) == []
        assert retriever.search("the cat", mode=mode, languages=[]) == []


def test_documents_of_unknown_language_have_a_code(tmp_path, model):
    records = [
        {"_id": "1", "text": "12345 67890", "lang": "und"},
        {"_id": "2", "text": "the cat", "lang": "en"},
    ]
    build_index(write_jsonl(tmp_path / "c.jsonl", records), tmp_path / "idx", model=str(model))
    found = Retriever(tmp_path / "idx").search("the cat 12345", languages=["und"])
    assert [hit.doc_id for hit in found] == ["1"]


@pytest.mark.parametrize(
    ("languages", "fault"),
    [
        ("de", r"Give languages as a list: \['de'\]"),
        (["xx"], "Unknown language 'xx'"),
    ],
)
def test_bad_filters(retriever, languages, fault):
    with pytest.raises(InputError, match=fault):
        retriever.search("cat", languages=languages)


@pytest.mark.parametrize("mode", ["hybrid", "dense"])
def test_vectors_that_are_known_already_are_not_made_again(small_index, model, monkeypatch, mode):
    vectors = Encoder(str(model)).encode_queries(QUERIES)
    queries = [Query(str(n), text) for n, text in enumerate(QUERIES)]
    expected = Retriever(small_index).rank(queries, mode=mode)
    monkeypatch.setattr(Encoder, "encode_queries", None)
    found = Retriever(small_index).rank(queries, mode=mode, vectors=vectors)
    for one, other in zip(found, expected, strict=True):
        assert one.ranking.rows.tolist() == other.ranking.rows.tolist()
        assert one.ranking.scores == pytest.approx(other.ranking.scores, abs=1e-5)
        assert "encode" not in one.seconds


@pytest.mark.parametrize(
    ("mode", "parts"),
    [("hybrid", {"encode", "dense", "bm25"}), ("dense", {"encode", "dense"}), ("bm25", {"bm25"})],
)
def test_a_ranking_says_how_long_each_part_took(retriever, mode, parts):
    [ranked] = retriever.rank([Query("1", "the cat")], mode=mode)
    assert ranked.seconds.keys() == parts
    assert all(0 < seconds < 60 for seconds in ranked.seconds.values())
