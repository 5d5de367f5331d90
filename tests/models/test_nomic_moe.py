import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mretrieve.errors import InputError
from mretrieve.models.balance import (
    BALANCE_LOSSES,
    load_balancing_loss,
    router_entropy_loss,
    router_z_loss,
    switch_loss,
)
from mretrieve.models.nomic_files import load_nomic_moe
from mretrieve.models.nomic_hub import NomicMoEConfig
from mretrieve.models.nomic_moe import NomicMoEModel
from mretrieve.models.routers import ROUTERS
from tests.models.nomic import ABSENT, FIXTURE, reference, tiny_config, tiny_model

BATCHES = [
    "full",
    "left_padded",
    "long",
    "mixed",
    "mixed_garbage_pads",
    "overpadded",
    "single_len1",
    "text_passage",
    "text_query",
]
VARIANTS = {
    "official": {},
    "absolute": {"position_embedding_type": "absolute", "first_position": 2, "type_vocab_size": 2},
    "normalized with expert biases": {"normalize_gates": True, "expert_biases": True},
    "partly rotary, interleaved": {"rotary_fraction": 0.5, "rotary_interleaved": True, "rotary_base": 100.0},
    "tanh, no biases": {"hidden_act": "gelu_pytorch_tanh", "attention_bias": False, "fc1_bias": False},
    "relu, all layers, top 1": {"hidden_act": "relu", "moe_layers": (0, 1, 2), "moe_top_k": 1},
    "dense": {"moe_layers": (), "num_experts": 0, "moe_top_k": 0},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def official():
    if not FIXTURE.exists():
        pytest.skip(ABSENT)
    return load_nomic_moe(FIXTURE)


def batch(name):
    with np.load(FIXTURE / "reference" / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def embed(hidden, mask, dim=None):
    mean = (hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    return F.normalize(mean[:, :dim], dim=-1)


def texts(n_words=48, lengths=(3, 7, 7, 1, 12)):
    rng = np.random.default_rng(5)
    return [rng.integers(4, n_words, length) for length in lengths]


@pytest.mark.parametrize("name", BATCHES)
@torch.no_grad()
def test_official_activations_are_reproduced(official, name):
    wanted = batch(name)
    mask = wanted["attention_mask"]
    real = mask.bool()
    output = official(wanted["input_ids"], mask, output_hidden_states=True)
    embeddings = embed(output.last_hidden_state, mask)
    torch.testing.assert_close(embeddings, wanted["embeddings"], rtol=0, atol=1e-5)
    if "hidden_states" in wanted:
        states = torch.stack(output.hidden_states)[:, real]
        torch.testing.assert_close(states, wanted["hidden_states"][:, real], rtol=0, atol=5e-5)
    if "router_logits" not in wanted:
        return
    cut = embed(output.last_hidden_state, mask, int(wanted["truncate_dim"]))
    torch.testing.assert_close(cut, wanted["embeddings_truncated"], rtol=0, atol=1e-5)
    last = output.last_hidden_state[real]
    torch.testing.assert_close(last, wanted["last_hidden_state"][real], rtol=0, atol=5e-5)
    logits = torch.stack(output.router_logits)[:, real.flatten()]
    torch.testing.assert_close(logits, wanted["router_logits"][:, real], rtol=0, atol=5e-5)
    chosen = torch.stack(output.router_experts)[:, real.flatten()]
    assert torch.equal(chosen, wanted["router_topk_index"][:, real])


@pytest.mark.parametrize("name", BATCHES)
@torch.no_grad()
def test_packed_batches_give_the_official_embeddings(official, name):
    wanted = batch(name)
    mask = wanted["attention_mask"].bool()
    lengths = mask.sum(1).tolist()
    hidden = official.forward_packed(wanted["input_ids"][mask], lengths).last_hidden_state
    means = torch.stack([rows.mean(0) for rows in hidden.split(lengths)])
    torch.testing.assert_close(F.normalize(means, dim=-1), wanted["embeddings"], rtol=0, atol=1e-5)


@pytest.mark.skipif(not FIXTURE.exists(), reason=ABSENT)
@pytest.mark.parametrize("name", BATCHES[:7])
@torch.no_grad()
def test_official_load_balancing_loss(official, name):
    wanted = batch(name)
    losses = json.loads((FIXTURE / "reference" / "aux_loss.json").read_text(encoding="utf-8"))[name]
    mask = wanted["attention_mask"]
    coef = official.sizes.router_aux_loss_coef
    assert coef == losses["coef"]
    own = official(wanted["input_ids"], mask).router_logits
    stored = [layer.flatten(0, 1) for layer in wanted["router_logits"]]
    everything = "formula_over_all_positions_with_npz_router_logits"
    real = "formula_over_real_tokens_with_npz_router_logits"
    assert coef * load_balancing_loss(stored, top_k=2).item() == pytest.approx(losses[everything], abs=1e-6)
    assert coef * load_balancing_loss(stored, top_k=2, mask=mask).item() == pytest.approx(
        losses[real], abs=1e-6
    )
    assert coef * load_balancing_loss(own, top_k=2, mask=mask).item() == pytest.approx(losses[real], abs=1e-6)
    if mask.all():
        assert coef * load_balancing_loss(own, top_k=2).item() == pytest.approx(
            losses["aux_loss_official"], abs=1e-6
        )


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
@torch.no_grad()
def test_agrees_with_a_loop_over_tokens(changes):
    model = tiny_model(tiny_config(**changes))
    for ids in texts(lengths=(1, 6)):
        states, probabilities, choices = reference(model, ids)
        output = model(torch.tensor(ids)[None], output_hidden_states=True)
        found = torch.stack(output.hidden_states)[:, 0].numpy()
        np.testing.assert_allclose(found, states, rtol=0, atol=2e-5)
        for layer, (logits, experts) in enumerate(
            zip(output.router_logits, output.router_experts, strict=True)
        ):
            np.testing.assert_allclose(logits.softmax(-1).numpy(), probabilities[layer], rtol=0, atol=1e-6)
            assert experts.tolist() == choices[layer]


@pytest.mark.parametrize("changes", [{}, VARIANTS["absolute"]], ids=["rotary", "absolute"])
@pytest.mark.parametrize("form", ["right", "packed"])
@torch.no_grad()
def test_a_batch_gives_what_each_text_gives_alone(changes, form):
    model, batch = tiny_model(tiny_config(**changes)), texts()
    alone = [model(torch.tensor(ids)[None]).last_hidden_state[0] for ids in batch]
    if form == "packed":
        lengths = [len(ids) for ids in batch]
        together = model.forward_packed(torch.from_numpy(np.concatenate(batch)), lengths)
        found = list(together.last_hidden_state.split(lengths))
    else:
        ids, mask = torch.full((5, 14), 9), torch.zeros(5, 14)
        for row, text in enumerate(batch):
            ids[row, : len(text)], mask[row, : len(text)] = torch.from_numpy(text), 1
        hidden = model(ids, mask).last_hidden_state
        found = [rows[: len(text)] for rows, text in zip(hidden, batch, strict=True)]
    for one, other in zip(found, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@torch.no_grad()
def test_token_types_are_added():
    model = tiny_model(tiny_config(type_vocab_size=2))
    ids = torch.tensor([[5, 6, 7]])
    zeros, ones = (model(ids, token_type_ids=torch.full_like(ids, n)).last_hidden_state for n in (0, 1))
    assert torch.equal(zeros, model(ids).last_hidden_state)
    model.embeddings.token_type_embeddings.weight[0] = model.embeddings.token_type_embeddings.weight[1]
    assert torch.equal(ones, model(ids).last_hidden_state)


@torch.no_grad()
def test_a_text_without_tokens_harms_nobody():
    model = tiny_model()
    ids, mask = torch.full((2, 4), 7), torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])
    hidden = model(ids, mask).last_hidden_state
    assert hidden.isfinite().all()
    torch.testing.assert_close(hidden[:1], model(ids[:1]).last_hidden_state, rtol=0, atol=1e-6)


def test_every_parameter_learns():
    model = tiny_model(tiny_config(expert_biases=True)).train()
    batch = texts(lengths=(12, 12, 12))
    output = model.forward_packed(torch.from_numpy(np.concatenate(batch)), [12, 12, 12])
    (output.last_hidden_state.square() * torch.linspace(-1, 1, 32)).sum().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ROUTERS)
def test_checkpointing_changes_no_gradient(name, reentrant):
    changes = {"hidden_dropout": 0.2, "expert_output_masking": 0.2, "final_output_masking": 0.2}
    losses = {"router_aux_loss_coef": 0.1, "router_z_loss_coef": 0.01}
    config = tiny_config(router=name, languages=("de", "sw"), **changes, **losses)
    batch = texts(lengths=(12, 12, 7))
    ids, languages = torch.from_numpy(np.concatenate(batch)), torch.tensor([1, 2, 0])
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model(config).train()
        if checkpointing:
            checkpointing_enable(model, use_reentrant=reentrant)
            assert model.encoder.gradient_checkpointing
        torch.manual_seed(4)
        output = model.forward_packed(ids, [12, 12, 7], language_ids=languages)
        task = (output.last_hidden_state.square() * torch.linspace(-1, 1, 32)).sum()
        (task + output.auxiliary_loss).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


def checkpointing_enable(model, **options):
    """As `gradient_checkpointing_enable`, which newer versions of transformers call otherwise."""
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(options)
    else:
        model.gradient_checkpointing_enable(options)


def test_the_auxiliary_loss_is_the_configs_over_real_tokens():
    coefs = {"router_aux_loss_coef": 0.1, "router_z_loss_coef": 0.01, "router_entropy_coef": 0.001}
    model = tiny_model(tiny_config(balance_loss="switch", **coefs)).train()
    ids, mask = torch.randint(4, 48, (3, 6)), torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] + [0] * 5])
    output = model(ids, mask)
    logits = output.router_logits
    expected = (
        0.1 * switch_loss(logits, top_k=2, mask=mask)
        + 0.01 * router_z_loss(logits, mask=mask)
        + 0.001 * router_entropy_loss(logits, mask=mask)
    )
    assert output.auxiliary_loss.item() == pytest.approx(expected.item(), rel=1e-5)
    packed = model.forward_packed(ids[mask.bool()], [6, 4, 1])
    assert packed.auxiliary_loss.item() == pytest.approx(expected.item(), rel=1e-4)
    output.auxiliary_loss.backward()
    assert model.encoder.layers[2].mlp.router.layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("balance", BALANCE_LOSSES)
@pytest.mark.parametrize("name", ROUTERS)
def test_every_balance_loss_teaches_every_router_and_leaves_padding_out(name, balance):
    options = {"router_aux_loss_coef": 1.0, "languages": ("de",), "language_dropout": 0.0}
    model = tiny_model(tiny_config(router=name, balance_loss=balance, **options)).train()
    ids, mask = torch.full((4, 9), 7), torch.zeros(4, 9)
    for row, text in enumerate(texts(lengths=(9, 7, 5, 2))):
        ids[row, : len(text)], mask[row, : len(text)] = torch.from_numpy(text), 1
    languages = torch.tensor([1, 0, 1, 1])
    loss = model(ids, mask, language_ids=languages).auxiliary_loss
    packed = model.forward_packed(ids[mask.bool()], [9, 7, 5, 2], language_ids=languages)
    assert loss.item() == pytest.approx(packed.auxiliary_loss.item(), rel=1e-4)
    loss.backward()
    learned = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    for layer in (1, 2):
        prefix = f"encoder.layers.{layer}.mlp.router."
        own = {prefix + key for key, _ in model.encoder.layers[layer].mlp.router.named_parameters()}
        assert own - {f"{prefix}log_temperature"} <= learned
    assert not any(key.startswith("encoder.layers.2.mlp.experts") for key in learned)


@torch.no_grad()
def test_there_is_no_auxiliary_loss_where_none_is_wanted():
    ids = torch.tensor([[5, 6, 7]])
    assert tiny_model()(ids).auxiliary_loss is None
    assert tiny_model().train()(ids).auxiliary_loss == 0
    assert tiny_model(tiny_config(**VARIANTS["dense"])).train()(ids).auxiliary_loss is None


def test_fresh_routers_have_their_own_start():
    config = tiny_config(router="xmoe", initializer_range=0.03)
    torch.manual_seed(1)
    router = NomicMoEModel(NomicMoEConfig(**config.to_dict())).encoder.layers[1].mlp.router
    assert router.log_temperature.exp().item() == pytest.approx(0.3)
    torch.testing.assert_close(router.experts.norm(dim=1), torch.full((4,), 0.1))
    assert router.projection.weight.std().item() == pytest.approx(0.03, rel=0.3)


@torch.no_grad()
def test_dropout_is_for_training():
    ids = torch.tensor([[5, 6, 7]])
    plain, dropping = tiny_model(), tiny_model(tiny_config(hidden_dropout=0.5))
    wanted = plain(ids).last_hidden_state
    assert torch.equal(dropping(ids).last_hidden_state, wanted)
    assert not torch.allclose(dropping.train()(ids).last_hidden_state, wanted, atol=1e-2)


@pytest.mark.parametrize("name", ROUTERS)
@torch.no_grad()
def test_every_router_treats_texts_alone_and_together_alike(name):
    model = tiny_model(tiny_config(router=name, languages=("de", "sw")))
    batch, languages = texts(), torch.tensor([1, 2, 2, 0, 1])
    alone = [
        model(torch.tensor(ids)[None], language_ids=language[None]).last_hidden_state[0]
        for ids, language in zip(batch, languages, strict=True)
    ]
    packed = model.forward_packed(
        torch.from_numpy(np.concatenate(batch)), [len(ids) for ids in batch], language_ids=languages
    )
    torch.testing.assert_close(packed.last_hidden_state, torch.cat(alone), rtol=0, atol=1e-5)


def test_routers_stay_in_float32_under_autocast():
    model = tiny_model()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = model(torch.tensor([[5, 6, 7]]))
    assert {logits.dtype for logits in output.router_logits} == {torch.float32}


def test_the_tuple_holds_the_same_values():
    model, ids = tiny_model(), torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        hidden, logits, experts, gates = model(ids, return_dict=False)
        output = model(ids)
    assert torch.equal(hidden, output.last_hidden_state)
    assert len(logits) == len(experts) == len(gates) == 2


@pytest.mark.parametrize(("changes", "length"), [({}, 65), (VARIANTS["absolute"], 63)])
def test_too_long_texts_are_refused(changes, length):
    model = tiny_model(tiny_config(**changes))
    ids = torch.full((1, length - 1), 5)
    model(ids)
    with pytest.raises(InputError, match=f"A text of {length} tokens is longer than the {length - 1}"):
        model(torch.full((1, length), 5))
    with pytest.raises(InputError, match=f"A text of {length} tokens"):
        model.forward_packed(torch.full((length + 2,), 5), [2, length])


@pytest.mark.parametrize("lengths", [[2, 2], [0, 5], [3, -1, 3]])
def test_lengths_must_fit_the_tokens(lengths):
    with pytest.raises(InputError, match="lengths must be positive and sum to the number of tokens, 5"):
        tiny_model().forward_packed(torch.full((5,), 5), lengths)


def test_an_empty_packed_batch():
    assert tiny_model().forward_packed(torch.zeros(0, dtype=torch.long), []).last_hidden_state.shape == (
        0,
        32,
    )
