"""Losses against arithmetic written out."""

import math

import pytest
import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from mretrieve.errors import InputError
from mretrieve.train.losses import (
    MaskedRankingLoss,
    Memory,
    ScoreLoss,
    SimilarityLoss,
    TargetLoss,
    TargetRankingLoss,
    build_loss,
)
from mretrieve.train.objectives import Objective, Ranking, Scores, Similarities, TargetRanking


@pytest.fixture(scope="module")
def model(base):
    torch.set_num_threads(1)
    return SentenceTransformer(str(base), device="cpu")


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def labels(n, columns=2, *, groups=None, texts=None, languages=None, **others):
    return {
        "groups": torch.tensor(groups or list(range(n))),
        "texts": torch.tensor(texts or [[10 * i + c for c in range(columns)] for i in range(n)]),
        "languages": torch.tensor(languages or [[0] * columns] * n),
    } | others


@pytest.mark.parametrize("partition", ["joint", "per_direction"])
def test_without_false_negatives_it_is_the_librarys_loss(model, partition):
    directions = ["query_to_doc", "doc_to_query"]
    if partition == "joint":
        directions += ["query_to_query", "doc_to_doc"]
    embeddings = [unit(5, 8, seed=column) for column in range(3)]
    ours = MaskedRankingLoss(model, Ranking(temperature=0.1, directions=directions, partition=partition))
    theirs = MultipleNegativesRankingLoss(
        model, scale=10, directions=tuple(directions), partition_mode=partition
    )
    expected = theirs.compute_loss_from_embeddings(embeddings, None)
    assert float(ours.compute_loss_from_embeddings(embeddings, labels(5, 3))) == pytest.approx(
        float(expected)
    )


def test_right_answers_are_no_negatives(model):
    q, d = unit(3, 4), unit(3, 4, seed=1)
    sims = (q @ d.T).tolist()
    loss = MaskedRankingLoss(model, Ranking(temperature=1.0))
    # 0 and 1 are of one group; the text of document 2 is that of document 0.
    found = loss.compute_loss_from_embeddings(
        [q, d], labels(3, groups=[7, 7, 8], texts=[[1, 5], [2, 6], [3, 5]])
    )
    candidates = [[0], [1, 2], [1, 2]]
    expected = [
        math.log(sum(math.exp(sims[i][j]) for j in own)) - sims[i][i] for i, own in enumerate(candidates)
    ]
    assert float(found) == pytest.approx(sum(expected) / 3, rel=1e-5)


@pytest.mark.parametrize(
    "part", [{"target_ranking": TargetRanking(memory=8)}, {"similarities": Similarities(memory=8)}]
)
def test_a_memory_has_one_length(model, part):
    objective = Objective(data="d/s", **part)
    with pytest.raises(InputError, match="`matryoshka` and a loss's `memory` do not go together"):
        build_loss(model, objective, matryoshka=[8])


def test_the_teacher_masks_in_the_positives_language_only(model):
    teacher = torch.zeros(3, 2, 3)
    teacher[:, :, 0] = 1  # it finds all documents as near as the positive
    given = labels(3, languages=[[0, 1], [0, 1], [0, 2]], teacher=teacher)
    q, d = unit(3, 4), unit(3, 4, seed=1)
    sims = (q @ d.T).tolist()
    loss = MaskedRankingLoss(model, Ranking(temperature=1.0, margin=0.1))
    candidates = [[0, 2], [1, 2], [0, 1, 2]]
    expected = [
        math.log(sum(math.exp(sims[i][j]) for j in own)) - sims[i][i] for i, own in enumerate(candidates)
    ]
    assert float(loss.compute_loss_from_embeddings([q, d], given)) == pytest.approx(
        sum(expected) / 3, rel=1e-5
    )


def test_similarities_are_compared_inside_a_language():
    q, d, tq, td = (unit(4, 6, seed=seed) for seed in range(4))
    languages = [[0, 0], [0, 0], [1, 1], [2, 2]]
    given = labels(4, languages=languages, teacher=torch.stack([tq, td], dim=1))
    found = SimilarityLoss(Similarities(temperature=0.5)).compute_loss_from_embeddings([q, d], given)
    shares = (tq[:2] @ td[:2].T / 0.5).softmax(dim=1)
    logs = (q[:2] @ d[:2].T / 0.5).log_softmax(dim=1)
    expected = (shares * (shares.log() - logs)).sum(dim=1).mean()  # 2 and 3 have nothing to compare
    assert float(found) == pytest.approx(float(expected), rel=1e-4)
    same = labels(4, languages=languages, teacher=torch.stack([q, d], dim=1))
    loss = SimilarityLoss(Similarities(within_language=False))
    assert float(loss.compute_loss_from_embeddings([q, d], same)) == pytest.approx(0, abs=1e-6)


def test_similarities_to_documents_of_earlier_batches():
    q, d, tq, td = (unit(3, 6, seed=seed) for seed in range(4))
    languages = [[0, 0], [0, 0], [1, 1]]
    given = labels(3, languages=languages, teacher=torch.stack([tq, td], dim=1))
    loss = SimilarityLoss(Similarities(temperature=0.5, memory=2))
    loss.compute_loss_from_embeddings([q, d], given)
    a, b, ta, tb = (unit(1, 6, seed=seed) for seed in range(4, 8))
    later = labels(1, languages=[[0, 0]], teacher=torch.stack([ta, tb], dim=1))
    found = loss.compute_loss_from_embeddings([a, b], later)
    # Two texts are remembered, of which one is in the language: with it there is something to compare.
    shares = (ta @ torch.cat([tb, td[1:2]]).T / 0.5).softmax(dim=1)
    logs = (a @ torch.cat([b, d[1:2]]).T / 0.5).log_softmax(dim=1)
    assert float(found) == pytest.approx(float((shares * (shares.log() - logs)).sum()), rel=1e-4)


def test_targets_count_where_there_are_some(model):
    a, b, target = unit(3, 4), unit(3, 4, seed=1), unit(3, 4, seed=2)
    targets = torch.stack([target, target], dim=1)
    given = labels(3, targets=targets, has_target=torch.tensor([True, False, True]))
    expected = sum(1 - float(x[i] @ target[i]) for x in (a, b) for i in (0, 2)) / 4
    assert float(TargetLoss(model).compute_loss_from_embeddings([a, b], given)) == pytest.approx(
        expected, rel=1e-4
    )
    nothing = given | {"has_target": torch.zeros(3, dtype=torch.bool)}
    assert float(TargetLoss(model).compute_loss_from_embeddings([a, b], nothing)) == 0


def test_every_column_finds_its_target_among_all_targets():
    a, b, first, second = (unit(3, 4, seed=seed) for seed in range(4))
    targets = torch.stack([first, second], dim=1)
    given = labels(3, groups=[7, 7, 8], targets=targets, has_target=torch.tensor([True, True, True]))
    loss = TargetRankingLoss(TargetRanking(temperature=0.5, memory=4))
    expected = []
    for vectors, wanted in ((a, first), (b, second)):
        sims = (vectors @ wanted.T / 0.5).tolist()
        for row, own in enumerate([[0, 2], [1, 2], [0, 1, 2]]):  # rows 0 and 1 say the same
            expected.append(math.log(sum(math.exp(sims[row][j]) for j in own)) - sims[row][row])
    assert float(loss.compute_loss_from_embeddings([a, b], given)) == pytest.approx(
        sum(expected) / 6, rel=1e-5
    )
    later = labels(2, groups=[8, 9], targets=targets[:2], has_target=torch.tensor([False, True]))
    found = loss.compute_loss_from_embeddings([a[:2], b[:2]], later)
    stored = torch.cat([first, second])[-4:]  # of the groups 8, 7, 7, 8, none of them row 1's
    expected = []
    for vectors, wanted in ((a, first), (b, second)):
        sims = vectors[1] @ torch.cat([wanted[1:2], stored]).T / 0.5
        expected.append(float(sims.logsumexp(0) - sims[0]))
    assert float(found) == pytest.approx(sum(expected) / 2, rel=1e-5)
    nothing = later | {"has_target": torch.zeros(2, dtype=torch.bool)}
    assert float(loss.compute_loss_from_embeddings([a[:2], b[:2]], nothing)) == 0


def test_a_memory_forgets_the_oldest_and_learns_in_training_only():
    memory = Memory(3)
    assert len(memory) == 0
    memory.add(vectors=torch.eye(2, requires_grad=True), groups=torch.tensor([1, 2]))
    memory.add(vectors=torch.ones(2, 2), groups=torch.tensor([3, 4]))
    with torch.no_grad():
        memory.add(vectors=torch.zeros(1, 2), groups=torch.tensor([5]))
    assert memory["groups"].tolist() == [2, 3, 4]
    assert memory["vectors"].tolist() == [[0, 1], [1, 1], [1, 1]]
    assert not memory["vectors"].requires_grad
    nothing = Memory(0)
    nothing.add(groups=torch.tensor([1]))
    assert len(nothing) == 0


def test_scores_of_a_cross_encoder(model):
    q, p, n = unit(2, 4), unit(2, 4, seed=1), unit(2, 4, seed=2)
    scores = torch.tensor([[2.0, 0.5], [1.0, -1.0]])
    margins = [float(q[i] @ p[i] - q[i] @ n[i]) for i in range(2)]
    found = ScoreLoss(model, Scores(kind="margin_mse")).compute_loss_from_embeddings(
        [q, p, n], labels(2, 3, scores=scores[:, :1] - scores[:, 1:])
    )
    expected = ((margins[0] - 1.5) ** 2 + (margins[1] - 2.0) ** 2) / 2
    assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("matryoshka", [(), (16, 32)])
def test_cached_gradients_are_the_gradients(base, matryoshka):
    torch.set_num_threads(1)
    objective = Objective(data="x", ranking=Ranking(temperature=0.1), similarities=Similarities())
    texts = [["abc", "the cat", "ing", "dog"], ["bcd", "a cat on the mat", "king", "a dog"]]
    given = labels(4, teacher=unit(4, 2, 32))
    found = []
    for mini_batch in (None, 3):
        model = SentenceTransformer(str(base), device="cpu").eval()
        loss = build_loss(model, objective, mini_batch=mini_batch, matryoshka=matryoshka)
        value = loss([model.preprocess(column) for column in texts], given)
        value.backward()
        gradient = model[0].model.encoder.layer[0].attention.self.query.weight.grad
        found.append((float(value.detach()), gradient.clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-6)
