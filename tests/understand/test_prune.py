from dataclasses import replace

import numpy as np
import pytest
import torch

from mretrieve.errors import InputError
from mretrieve.models.routers import RoutingContext
from mretrieve.understand.prune import choose_experts, expert_importance, gate_scale, prune_experts
from mretrieve.understand.statistics import RoutingStatistics
from tests.models.nomic import tiny_config, tiny_model

# Routers whose choice and normalised gates depend on the experts chosen alone.
EXACT = ["softmax", "xmoe", "stable", "sequence", "language"]


def statistics(firsts, confidences=None, slots=None):
    found = RoutingStatistics.empty(1, 1, len(firsts))
    found.firsts[0], found.n_tokens = firsts, int(sum(firsts))
    found.confidences[0] = firsts if confidences is None else confidences
    found.slots[0] = firsts if slots is None else slots
    return found


def layer_outputs(model, x, seed=3):
    """What the first layer of experts gives for tokens that are texts of their own."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, model.sizes.vocab_size, (len(x),), generator=generator)
    languages = torch.randint(0, 3, (len(x),), generator=generator)
    context = RoutingContext.packed(ids, [1] * len(x), languages)
    if model.router_embeddings is not None:
        context = replace(context, light_table=model.router_embeddings.weight)
    with torch.inference_mode():
        return model.encoder.layers[1].mlp(x, context)


def test_importance_by_hand():
    # 6 of 10 tokens at a mean of 0.5, 4 at 0.25.
    found = expert_importance(statistics([6, 0, 4], [3.0, 0.0, 1.0]))
    raw = np.array([0.6 * np.exp(0.5), 0.0, 0.4 * np.exp(0.25)])
    assert found[0] == pytest.approx(raw / raw.sum())


def test_every_language_has_the_same_say():
    config = tiny_config(moe_layers=(1,), moe_top_k=1)
    much, little = statistics([900, 0, 100, 0]), statistics([0, 6, 4, 0])
    assert choose_experts([much, little], 2, config) == [[0, 1]]
    assert choose_experts([much, little], 3, config) == [[0, 1, 2]]


def test_of_experts_that_are_never_first_the_most_used_is_kept():
    found = statistics([10, 0, 0, 0], slots=[10, 1, 9, 0])
    assert choose_experts([found], 2, tiny_config(moe_layers=(1,))) == [[0, 2]]


def test_each_stratum_keeps_its_own():
    config = tiny_config(moe_layers=(1,), router="stratified")
    assert choose_experts([statistics([5, 4, 0, 1])], 2, config) == [[0, 3]]
    with pytest.raises(InputError, match="2 strata .* not 3 experts"):
        choose_experts([statistics([5, 4, 0, 1])], 3, config)


@pytest.mark.parametrize("number", [1, 0, -1, 5])
def test_impossible_numbers(number):
    with pytest.raises(InputError, match=f"between 2, which each token goes to, and 4.*got {number}"):
        choose_experts([statistics([1, 1, 1, 1])], number, tiny_config())


def test_a_model_without_experts_has_none_to_drop():
    with pytest.raises(InputError, match="no layers of experts"):
        choose_experts([], 2, tiny_config(moe_layers=()))


@pytest.mark.parametrize("router", EXACT)
@pytest.mark.parametrize("biases", [True, False])
def test_tokens_whose_experts_are_kept_get_what_they_got(router, biases):
    languages = ("de", "fr") if router == "language" else ()
    config = tiny_config(router=router, languages=languages, normalize_gates=True, expert_biases=biases)
    model = tiny_model(config)
    kept = [[0, 2, 3], [1, 2, 3]]
    smaller = prune_experts(model, kept)
    assert smaller.sizes.num_experts == 3
    x = torch.randn(200, 32, generator=torch.Generator().manual_seed(0))
    (old, routing), (new, _) = layer_outputs(model, x), layer_outputs(smaller, x)
    same = (routing.experts != 1).all(dim=1)
    assert 10 < same.sum() < 190
    assert (new - old)[same].abs().max() < 1e-5
    assert (new - old)[~same].abs().amax(dim=1).min() > 1e-4


@pytest.mark.parametrize("router", ["top_p", "stratified"])
def test_other_routers_prune_too(router):
    smaller = prune_experts(tiny_model(tiny_config(router=router)), [[0, 3], [1, 2]])
    with torch.inference_mode():
        output = smaller(torch.arange(8).view(1, 8)).last_hidden_state
    assert torch.isfinite(output).all()


def test_keeping_all_changes_nothing():
    model = tiny_model()
    logits = [torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    same = prune_experts(model, [[0, 1, 2, 3]] * 2, logits=logits)
    for name, tensor in same.state_dict().items():
        assert torch.allclose(tensor, model.state_dict()[name], rtol=1e-6), name


def test_the_scale_by_hand():
    # Kept are 1/2 and 1/4 of 1: the first gate becomes 2/3. The second token loses its expert.
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.3, 0.6]]).log()
    assert gate_scale(logits, [0, 1], 1).tolist() == pytest.approx([0.75, 1.0])


def test_the_scale_brings_unnormalised_gates_back():
    model = tiny_model(tiny_config(normalize_gates=False))
    x = torch.randn(400, 32, generator=torch.Generator().manual_seed(0))
    old, routing = layer_outputs(model, x)
    kept = [[0, 2, 3], [1, 2, 3]]
    same = (routing.experts != 1).all(dim=1)
    errors = []
    for logits in (None, [routing.logits, routing.logits]):
        new, _ = layer_outputs(prune_experts(model, kept, logits=logits), x)
        errors.append(float((new - old)[same].square().mean()))
    assert errors[1] < 0.7 * errors[0]
