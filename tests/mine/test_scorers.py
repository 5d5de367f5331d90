import numpy as np
import pytest

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.mine.scorers import CrossEncoderScorer, PoolScorer
from mretrieve.types import Document, Query
from tests.rank.cross_encoders import make_cross_encoder

QUERIES = [Query("1", "the cat"), Query("2", "a dog"), Query("3", "nothing")]
DOCUMENTS = [
    [Document("a", "a cat in the sun"), Document("b", "dogs", title="two")],
    [Document("c", "x")],
    [],
]


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory):
    """A function that makes a small cross-encoder with so many outputs."""
    return lambda outputs: make_cross_encoder(tmp_path_factory.mktemp("cross"), outputs=outputs)


def test_the_pools_scores_are_cosines(pool, model, questions):
    documents = pool.documents([3, 70, 11])
    [scores, other] = PoolScorer(pool).score(questions[:2], [documents, documents[:1]])
    vectors = Encoder(str(model), dtype="fp32").encode_documents([one.contents for one in documents])
    query = Encoder(str(model), dtype="fp32").encode_queries([questions[0].text])[0]
    np.testing.assert_allclose(scores, vectors @ query, atol=0.02)  # the index holds them less exactly
    assert other.shape == (1,)
    assert PoolScorer(pool).score([], []) == []
    assert str(model) in PoolScorer(pool).name


def test_a_document_that_is_not_in_the_pool(pool, questions):
    with pytest.raises(InputError, match="does not hold the document 'x'"):
        PoolScorer(pool).score(questions[:1], [[Document("x", "text")]])


def test_cross_encoders_read_query_and_document_together(cross_encoder):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = str(cross_encoder(1))
    scores = CrossEncoderScorer(folder, device="cpu").score(QUERIES, DOCUMENTS)
    assert [len(one) for one in scores] == [2, 1, 0]
    tokens = AutoTokenizer.from_pretrained(folder)("the cat", "two dogs", return_tensors="pt")
    with torch.inference_mode():
        logit = AutoModelForSequenceClassification.from_pretrained(folder).eval()(**tokens).logits[0, 0]
    assert scores[0][1] == pytest.approx(torch.sigmoid(logit).item(), abs=1e-5)


def test_models_that_score_no_pairs(cross_encoder, model):
    with pytest.raises(InputError, match="gives 3 numbers per pair"):
        CrossEncoderScorer(str(cross_encoder(3)), device="cpu")
    with pytest.raises(InputError, match="is an embedding model, but a cross-encoder is needed"):
        CrossEncoderScorer(str(model), device="cpu")
