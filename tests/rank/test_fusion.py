import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mretrieve.errors import InputError
from mretrieve.rank.fusion import EMPTY, Fusion, Ranking, reciprocal_ranks, scale_minmax, scale_zscore


def ranking(*pairs):
    return Ranking(np.array([r for r, _ in pairs], np.int64), np.array([s for _, s in pairs], np.float32))


def as_dict(fused):
    return dict(zip(fused.rows.tolist(), fused.scores.tolist(), strict=True))


def test_rrf_sums_reciprocal_ranks():
    fused = Fusion("rrf", 60.0).fuse(ranking((5, 0.9), (3, 0.4)), ranking((3, 11.2), (9, 2.0)))
    assert fused.rows.tolist() == [3, 5, 9]
    assert fused.scores.tolist() == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])
    assert reciprocal_ranks(3, k=1).tolist() == [1 / 2, 1 / 3, 1 / 4]


def test_minmax_sums_scores_between_the_worst_and_the_best():
    dense, bm25 = ranking((1, 0.9), (2, 0.5), (3, 0.1)), ranking((3, 10.0), (4, 6.0), (5, 2.0))
    fused = Fusion("minmax", 0.25).fuse(dense, bm25)
    # dense 1, 0.5, 0 with weight 1/4; BM25 1, 0.5, 0 with weight 3/4
    assert as_dict(fused) == pytest.approx({3: 0.75, 4: 0.375, 1: 0.25, 2: 0.125, 5: 0.0})
    assert fused.rows.tolist() == [3, 4, 1, 2, 5]


def test_zscore_sums_scores_in_standard_deviations_above_the_worst():
    dense, bm25 = ranking((1, 4.0), (2, 0.0)), ranking((2, 9.0), (3, 3.0))
    # deviations 2 and 3: dense 2, 0; BM25 2, 0
    fused = Fusion("zscore", 0.75).fuse(dense, bm25)
    assert as_dict(fused) == pytest.approx({1: 1.5, 2: 0.5, 3: 0.0})
    assert scale_zscore(np.array([5.0, 3.0, 1.0])).tolist() == pytest.approx(
        [4 / np.sqrt(8 / 3), 2 / np.sqrt(8 / 3), 0]
    )


def test_equal_scores_of_a_leg_count_fully():
    assert scale_minmax(np.array([3.0, 3.0])).tolist() == [1.0, 1.0]
    assert scale_zscore(np.array([3.0])).tolist() == [1.0]
    assert as_dict(Fusion("minmax", 0.5).fuse(ranking((1, 0.3)), ranking((2, 8.0)))) == {1: 0.5, 2: 0.5}


@pytest.mark.parametrize("method", ["rrf", "minmax", "zscore"])
def test_ties_are_in_the_order_of_rows(method):
    dense, bm25 = ranking((7, 0.9), (4, 0.1)), ranking((2, 9.0), (6, 1.0))
    assert Fusion.parse(method).fuse(dense, bm25).rows.tolist() == [2, 7, 4, 6]


def test_documents_that_bm25_did_not_look_at_get_a_share():
    dense, bm25 = ranking((1, 0.9), (2, 0.8), (3, 0.7)), ranking((3, 5.0))
    seen = np.array([True, False, True])
    fused = Fusion("rrf", 60.0, unseen=0.5).fuse(dense, bm25, seen=seen)
    assert as_dict(fused) == pytest.approx({1: 1 / 61, 2: 1 / 62 + 0.5 / 62, 3: 1 / 63 + 1 / 61})
    fused = Fusion("minmax", 0.25, unseen=0.5).fuse(dense, bm25, seen=seen)
    # dense 1, 0.5, 0 with weight 1/4; what BM25 would have given 2: half of 3/4 of 0.5
    assert as_dict(fused) == pytest.approx({1: 0.25, 2: 0.125 + 0.1875, 3: 0.75})


def test_where_bm25_saw_all_the_share_changes_nothing():
    dense, bm25 = ranking((1, 0.9), (2, 0.8)), ranking((2, 5.0), (8, 1.0))
    for method in ("rrf", "minmax", "zscore"):
        fusion = Fusion.parse(method)
        whole = fusion.fuse(dense, bm25, seen=np.array([True, True]))
        assert as_dict(whole) == as_dict(fusion.fuse(dense, bm25))


@pytest.mark.parametrize("method", ["rrf", "minmax", "zscore"])
def test_a_leg_without_hits(method):
    fusion = Fusion.parse(method)
    assert fusion.fuse(ranking((3, 0.9), (1, 0.2)), EMPTY).rows.tolist() == [3, 1]
    assert fusion.fuse(EMPTY, ranking((3, 9.0), (1, 2.0))).rows.tolist() == [3, 1]
    assert fusion.fuse(EMPTY, EMPTY).rows.tolist() == []


@pytest.mark.parametrize("method", ["minmax", "zscore"])
def test_a_weight_of_0_or_1_is_one_leg_as_it_is(method):
    dense, bm25 = ranking((1, 0.9), (2, 0.8), (3, 0.7)), ranking((9, 5.0), (8, 4.0))
    seen = np.array([True, False, True])
    assert Fusion(method, 0.0).fuse(dense, bm25, seen=seen) is bm25
    assert Fusion(method, 1.0).fuse(dense, bm25, seen=seen) is dense
    # A leg without hits leaves the answer to the other.
    assert Fusion(method, 0.0).fuse(dense, EMPTY) is dense
    assert Fusion(method, 1.0).fuse(EMPTY, bm25) is bm25
    assert Fusion(method, 0.5).alone(dense, bm25) is None
    assert Fusion("rrf", 1.0).alone(dense, bm25) is None


def scores_by_hand(fusion, pairs):
    """One leg's scaled scores, in plain Python."""
    scores = [score for _, score in pairs]
    if fusion.method == "rrf":
        return {row: 1 / (fusion.parameter + rank) for rank, (row, _) in enumerate(pairs, start=1)}
    low, mean = min(scores), sum(scores) / len(scores)
    width = max(scores) - low
    if fusion.method == "zscore":
        width = (sum((score - mean) ** 2 for score in scores) / len(scores)) ** 0.5
    return {row: (score - low) / width if width else 1.0 for row, score in pairs}


@st.composite
def legs(draw):
    rows = draw(st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=12))
    scores = sorted((draw(st.integers(-40, 40)) / 8 for _ in rows), reverse=True)
    return list(zip(rows, scores, strict=True))


@given(
    legs(),
    legs(),
    st.sampled_from(["rrf:60", "rrf:1", "minmax:0.5", "minmax:0.9", "zscore:0.5", "zscore:0.25"]),
    st.data(),
)
def test_as_by_hand(dense, bm25, spec, data):
    seen = [data.draw(st.booleans()) for _ in dense]
    fusion = Fusion.parse(spec, unseen=0.5)
    one, two = scores_by_hand(fusion, dense), scores_by_hand(fusion, bm25)
    weights = (1, 1) if fusion.method == "rrf" else (fusion.parameter, 1 - fusion.parameter)
    expected = {}
    for row in one.keys() | two.keys():
        unseen = row in one and not seen[list(one).index(row)]
        shared = 0.5 * weights[1] * one[row] if unseen else 0.0
        expected[row] = weights[0] * one.get(row, 0) + weights[1] * two.get(row, 0) + shared
    fused = fusion.fuse(ranking(*dense), ranking(*bm25), seen=np.array(seen))
    assert as_dict(fused) == pytest.approx(expected, abs=1e-6)
    assert (np.diff(fused.scores) <= 0).all()


@pytest.mark.parametrize(
    ("text", "method", "parameter"),
    [
        ("rrf", "rrf", 60),
        ("rrf:10", "rrf", 10),
        ("minmax", "minmax", 0.5),
        ("zscore:0", "zscore", 0),
        ("minmax:1", "minmax", 1),
    ],
)
def test_parse(text, method, parameter):
    fusion = Fusion.parse(text)
    assert (fusion.method, fusion.parameter) == (method, parameter)
    assert Fusion.parse(str(fusion)) == fusion


@pytest.mark.parametrize("text", ["", "RRF", "sum", "rrf60"])
def test_unknown_methods(text):
    with pytest.raises(
        InputError, match=rf"Unknown fusion '{text}'. Choose from: rrf:60, minmax:0.5, zscore"
    ):
        Fusion.parse(text)


@pytest.mark.parametrize(
    "text", ["rrf:0", "rrf:inf", "rrf:-1", "rrf:x", "rrf:nan", "minmax:1.1", "minmax:-0.1", "zscore:nan"]
)
def test_parameters_out_of_range(text):
    with pytest.raises(InputError, match=rf"Fusion '{text}' needs a number after the colon"):
        Fusion.parse(text)
