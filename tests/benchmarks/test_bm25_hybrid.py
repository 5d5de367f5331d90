"""What the figures of BM25's terms in hybrid search are made of."""

import numpy as np
import pytest
from bm25_hybrid import COLUMNS, LEGS, TERMS, family_gains, joined, rows_of


def questions(analyzer, pieces, both):
    """The same values for both legs."""
    values = dict(zip(TERMS, map(np.array, (analyzer, pieces, both)), strict=True))
    return {(leg, terms): values[terms] for leg in LEGS for terms in TERMS}


def test_sets_of_a_language_are_counted_by_their_questions():
    one = joined([questions([1.0], [0.5], [0.0]), questions([0.0, 0.5], [0.5, 0.5], [1.0, 1.0])])
    assert one["hybrid", "analyzer"].tolist() == [1.0, 0.0, 0.5]
    rows = rows_of({"de": one, "fr": questions([0.25], [0.5], [0.75])})
    assert rows[0] == ["de", 3, *(2 * [0.5, 0.5, pytest.approx(2 / 3)])]
    assert rows[2] == ["mean", 4, *(2 * [0.375, 0.5, pytest.approx(17 / 24)])]


def test_a_family_differs_from_all_only_where_its_questions_say_so():
    draw = np.random.default_rng(3)
    base = draw.random(400)
    better = questions(base, base - 0.1, base + 0.1 + 0.1 * draw.random(400))
    unclear = questions(base[:40], base[:40] - 0.1, base[:40] + np.tile([0.01, -0.012], 20))
    worse = questions(base[:40], base[:40] - 0.3, base[:40] - 0.2 - 0.1 * draw.random(40))
    found = {row[0]: row[1:] for row in family_gains({"de": better, "tr": unclear, "fr": worse})}
    assert list(found) == ["Germanic", "Romance", "Turkic", "all"]
    n_columns = len(COLUMNS)
    assert found["Germanic"][1] == pytest.approx(
        float((better["bm25", "both"] - better["bm25", "analyzer"]).mean())
    )
    terms = {family: [row[n_columns], row[2 * n_columns]] for family, row in found.items()}
    assert terms == {
        "Germanic": ["both", "both"],
        "Romance": ["analyzer", "analyzer"],
        "Turkic": ["both", "both"],
        "all": ["both", "both"],
    }
