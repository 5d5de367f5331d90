import pytest

from mretrieve.errors import InputError
from mretrieve.mine.pool import Pool
from mretrieve.mine.retrieve import retrieve
from mretrieve.types import Query


def found(candidates):
    return [one.document.doc_id for one in candidates.found]


@pytest.mark.parametrize("mode", ["dense", "bm25"])
def test_one_leg_is_what_the_retriever_gives(pool, questions, mode):
    ranked = pool.retriever.rank(questions[:8], top_k=12, mode=mode)
    retrieved = retrieve(questions[:8], pool, top_k=12, mode=mode)
    for query, one, expected in zip(questions[:8], retrieved, ranked, strict=True):
        assert one.query == query
        assert found(one) == pool.retriever.doc_ids(expected.ranking)
        assert [c.rank for c in one.found] == list(range(1, len(one.found) + 1))
        assert {c.source for c in one.found} == {mode}


def test_hybrid_joins_both_legs(pool, questions):
    query = questions[:1]
    [both] = retrieve(query, pool, top_k=20, mode="hybrid")
    legs = {mode: found(retrieve(query, pool, top_k=20, mode=mode)[0]) for mode in ("dense", "bm25")}
    assert len(both.found) == 20
    for candidate in both.found:
        expected = "+".join(leg for leg, ids in legs.items() if candidate.document.doc_id in ids)
        assert candidate.source == expected
    sums = [sum(1 / (61 + ids.index(doc)) for ids in legs.values() if doc in ids) for doc in found(both)]
    assert sums == sorted(sums, reverse=True)


def test_other_languages_are_searched_one_by_one(pool, questions):
    for one in retrieve(questions[:6], pool, top_k=3, mode="bm25", per_language=4):
        extra = [c for c in one.found if c.source.startswith("dense@")]
        assert {c.document.lang for c in extra} == set(pool.languages) - {one.query.lang}
        assert all(c.source == f"dense@{c.document.lang}" for c in extra)
        assert sorted(c.rank for c in extra) == [1, 1, 2, 2, 3, 3, 4, 4]


def test_what_both_searches_found_counts_once(pool, questions):
    [one] = retrieve(questions[:1], pool, top_k=75, mode="dense", per_language=25)
    assert len(one.found) == len(set(found(one))) == 75
    assert {c.source for c in one.found} == {"dense"}


def test_several_pools(index, pool, questions):
    [alone] = retrieve(questions[:1], pool, top_k=5, mode="dense")
    [joined] = retrieve(questions[:1], [pool, Pool(index)], top_k=5, mode="dense")
    assert joined == alone


def test_the_language_of_a_query_is_found(pool):
    [one] = retrieve([Query("1", "Wer lieferte die Holzschnitte für die Bibel?")], pool, top_k=2)
    assert one.query.lang == "de"
    assert retrieve([], pool) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k is 0"),
        ({"per_language": -1}, "per_language is -1"),
        ({"mode": "colbert"}, "Unknown mode 'colbert'. Choose from: hybrid, dense, bm25"),
    ],
)
def test_wrong_options(pool, questions, options, message):
    with pytest.raises(InputError, match=message):
        retrieve(questions[:1], pool, **options)
