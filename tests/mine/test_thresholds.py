import math

import numpy as np
import pytest

from mretrieve.errors import InputError
from mretrieve.mine.thresholds import Threshold, language_offsets


@pytest.mark.parametrize(
    ("threshold", "score", "limit"),
    [
        (Threshold(), 0.8, 0.76),  # 0.95 of it
        (Threshold(max_ratio=0.5), 0.8, 0.4),
        (Threshold(max_ratio=None, margin=0.05), 0.8, 0.75),
        (Threshold(max_ratio=0.95, margin=0.05), 0.8, 0.75),
        (Threshold(max_ratio=0.9, margin=0.05), 0.8, 0.72),
        (Threshold(max_ratio=None), 0.8, math.inf),
        (Threshold(max_ratio=0.9), -0.5, -0.55),  # below the positive's score, as for others
    ],
)
def test_limits_hang_on_the_positives_score(threshold, score, limit):
    assert threshold.limit(score, "en", "en", "en") == pytest.approx(limit)


def test_documents_are_compared_as_if_in_the_positives_language():
    offsets = {("en", "en"): 0.7, ("en", "de"): 0.6}
    threshold = Threshold(max_ratio=None, margin=0.1, offsets=offsets)
    # The positive is German: English documents may score 0.1 more, for their language alone.
    assert threshold.limit(0.8, "en", "de", "de") == pytest.approx(0.7)
    assert threshold.limit(0.8, "en", "de", "en") == pytest.approx(0.8)
    assert threshold.limit(0.8, "en", "en", "de") == pytest.approx(0.6)
    assert threshold.limit(0.8, "en", "de", "sw") == pytest.approx(0.7)  # nothing is known of it


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_ratio": 0.0}, "max_ratio is 0,"),
        ({"max_ratio": 1.5}, "max_ratio is 1.5"),
        ({"margin": -0.1}, "margin is -0.1"),
        ({"margin": math.nan}, "margin is nan"),
    ],
)
def test_wrong_numbers(options, message):
    with pytest.raises(InputError, match=message):
        Threshold(**options)


def test_offsets_are_means_of_all_pairs(pool, questions):
    offsets = language_offsets(pool, questions, per_language=1000)
    assert set(offsets) == {(one, other) for one in ("de", "en", "es") for other in ("de", "en", "es")}
    queries = pool.encode([query for query in questions if query.lang == "de"])
    documents = pool.vectors.get(pool.index.rows_of("es"))
    assert offsets["de", "es"] == pytest.approx(np.mean(queries @ documents.T), abs=1e-5)


def test_offsets_of_a_sample_are_the_same_each_time(pool, questions):
    few = language_offsets(pool, questions, per_language=5)
    assert few == language_offsets(pool, questions[::-1], per_language=5)
    assert few != language_offsets(pool, questions, per_language=5, seed=1)
