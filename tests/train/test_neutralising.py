"""The stage `neutralise`: the languages' means leave the embeddings, through every reader of the folder."""

import numpy as np
import pytest

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.train.neutralising import language_directions
from mretrieve.train.runner import run_recipe


def test_directions_are_those_in_which_means_differ():
    generator = np.random.default_rng(0)
    common = generator.normal(size=(1, 6))
    means = common + np.outer([-2.0, 1.0, 0.5, 0.5], [0, 1, 0, 0, 0, 0])
    means[:, 4] += [0.1, 0.1, -0.1, -0.1]
    directions, explained = language_directions(means.astype(np.float32), 1)
    assert abs(directions[0] @ [0, 1, 0, 0, 0, 0]) > 0.99
    assert 0.9 < explained < 1
    two, explained = language_directions(means.astype(np.float32), 2)
    np.testing.assert_allclose(two @ two.T, np.eye(2), atol=1e-5)
    assert explained == pytest.approx(1, abs=1e-6)


def test_as_many_directions_as_languages_are_too_many():
    with pytest.raises(InputError, match="2 languages differ in 1 directions at most, and 2 are"):
        language_directions(np.eye(2, 4, dtype=np.float32), 2)


@pytest.fixture
def run(write_recipe, base, root, tmp_path):
    def run(**change):
        stages = {
            "data": {
                "stage": "data",
                "root": str(root),
                "evaluation": ["eval/*"],
                "sets": {"parallel": {"kind": "parallel", "files": ["parallel/*.jsonl.xz"], "pairs": 200}},
            },
            "base": {"stage": "upcycle", "base": str(base), "experts": 2},
            "neutral": {"stage": "neutralise", "model": "base", "data": "data/parallel"}
            | {"directions": 2, "sentences": 8}
            | change,
        }
        run_recipe(write_recipe(stages), run_folder=tmp_path / "run", device="cpu")
        return tmp_path / "run"

    return run


def test_the_model_loses_the_directions_and_nothing_else(run):
    from sentence_transformers import SentenceTransformer

    folder = run()
    texts = ["one thing", "ein Ding", "une chose"]
    neutral = Encoder(str(folder / "neutral" / "model"))
    found = neutral.encode_documents(texts)
    library = SentenceTransformer(str(folder / "neutral" / "model"))
    np.testing.assert_allclose(found, library.encode(texts, prompt_name="passage"), atol=2e-5)
    weight = library[2].linear.weight.detach().numpy()
    assert np.linalg.matrix_rank(weight, tol=1e-3) == neutral.dim - 2
    before = Encoder(str(folder / "base" / "model")).encode_documents(texts)
    expected = before @ weight.T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_too_many_directions_are_refused(run):
    with pytest.raises(InputError, match="differ in .* directions at most"):
        run(directions=31)
