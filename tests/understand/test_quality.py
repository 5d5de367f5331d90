import numpy as np
import pytest

from mretrieve.understand import quality
from mretrieve.understand.parallel import read_parallel
from mretrieve.understand.quality import bitext_accuracy, measure_quality, measure_speed
from mretrieve.understand.running import TextModel

AXES = np.eye(4, dtype=np.float32)


def test_accuracy_is_the_mean_of_both_directions():
    assert bitext_accuracy(AXES, AXES) == 1.0
    # Of these four, rows 0 and 1 have changed places.
    assert bitext_accuracy(AXES[[1, 0, 2, 3]], AXES) == 0.5
    # Three rows alike find only the first of them by itself, but each scores no less than another.
    crowd = np.stack([AXES[0], AXES[0], AXES[0], AXES[3]])
    # From the crowd to the axes rows 0 and 3 are right; the other way round 1 and 2 meet nothing but ties.
    assert bitext_accuracy(crowd, AXES) == (2 / 4 + 4 / 4) / 2


def test_large_sets_are_done_in_blocks(monkeypatch):
    vectors = np.random.default_rng(0).standard_normal((50, 8), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    noisy = vectors + np.random.default_rng(1).standard_normal((50, 8), np.float32) * 0.5
    whole = bitext_accuracy(noisy, vectors)
    monkeypatch.setattr(quality, "_BLOCK", 7)
    assert bitext_accuracy(noisy, vectors) == whole
    assert 0 < whole < 1


def test_a_model_against_itself(sparse, parallel):
    runner = TextModel(sparse)
    seen = []
    text = read_parallel(parallel, langs=["de", "zh"])
    results = measure_quality(runner, runner, text, kept={"de"}, on_progress=lambda *step: seen.append(step))
    assert [one.lang for one in results] == ["en", "de", "zh"]
    assert [one.kept for one in results] == [False, True, False]
    assert results[0].accuracy_before is None
    for one in results[1:]:
        assert one.accuracy_before == one.accuracy_after == one.accuracy_against_old
    for one in results:
        assert one.cosine == pytest.approx(1.0)
        assert one.tokens_ratio == 1.0
    assert seen[-1] == ("testing", 3, 3)


def test_speed_is_a_ratio_of_rates(sparse, monkeypatch):
    clock = iter([0, 9, 0, 9, 0, 1, 0, 4, 0, 2, 0, 4, 0, 3, 0, 5])  # the first turn does not count
    monkeypatch.setattr(quality.time, "perf_counter", lambda: next(clock))
    runner = TextModel(sparse)
    speed = measure_speed(runner, runner, ["the cab"] * 8, rounds=3)
    assert (speed.before, speed.after, speed.ratio) == (4.0, 2.0, 0.5)
