import pytest
import torch

from mretrieve.errors import InputError
from mretrieve.models.balance import distillation_loss
from mretrieve.models.nomic_files import load_nomic_moe, save_nomic_moe
from mretrieve.models.routers import RoutingContext, make_router
from tests.models.nomic import official_folder, tiny_config, tiny_model

IDS = torch.tensor([[0, 5, 9, 7, 2], [0, 8, 5, 11, 2]])


def stable_model(**changes):
    return tiny_model(tiny_config(router="stable", **changes))


def routed(router, x, light):
    context = RoutingContext.packed(torch.arange(len(x)), [len(x)])
    return router(x, RoutingContext(**vars(context) | {"light_table": light}))


def eye_router(**changes):
    """Scores are the first four features of a state, light scores those of the light state."""
    router = make_router(tiny_config(router="stable", router_dim=4, **changes))
    with torch.no_grad():
        router.layer.weight.copy_(torch.eye(4, 32))
        router.light.weight.copy_(torch.eye(4))
    return router


STATE = torch.tensor([[3.0, 1.0, 2.0, 0.0, *[0.0] * 28]])
LIGHT = torch.tensor([[0.0, 5.0, 1.0, 4.0]])


def sigmoids(*values):
    return torch.tensor(values).sigmoid().tolist()


def test_states_choose_first_and_words_afterwards_but_the_gates_are_the_states():
    router = eye_router()
    first = routed(router, STATE, LIGHT)
    assert first.experts.tolist() == [[0, 2]]
    assert first.gates[0].tolist() == pytest.approx(sigmoids(3.0, 2.0))
    assert first.light_logits.tolist() == LIGHT.tolist()
    router.set_stage(2)
    second = routed(router, STATE, LIGHT)
    assert second.experts.tolist() == [[1, 3]]
    assert second.gates[0].tolist() == pytest.approx(sigmoids(1.0, 0.0))
    assert second.light_logits is None


def test_frozen_routers_learn_gates_but_no_choice():
    for stage in (1, 2):
        router = eye_router(router_stage=stage)
        router.light.requires_grad_()  # as a loader may leave it
        light = LIGHT.clone().requires_grad_()
        routing = routed(router, STATE, light)
        loss = routing.gates.sum() + routing.logits.sum()
        if routing.light_logits is not None:
            loss = loss + distillation_loss([routing])
        loss.backward()
        assert router.layer.weight.grad.abs().sum() > 0
        learns = router.light.weight.grad is not None
        assert learns == (light.grad is not None) == (stage == 1)


def test_the_light_router_learns_the_choice():
    torch.manual_seed(1)
    model = stable_model(router_aux_loss_coef=0.0, num_experts=4).train()
    ids = torch.randint(4, 48, (16, 12))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("light" in name or "router_embeddings" in name)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for _ in range(30):
        output = model(ids)
        optimizer.zero_grad()
        output.auxiliary_loss.backward()
        optimizer.step()
        losses.append(output.auxiliary_loss.item())
    first = [experts[:, 0] for experts in output.router_experts]
    model.set_router_stage(2)
    second = [experts[:, 0] for experts in model(ids).router_experts]
    assert losses[-1] < 0.7 * losses[0]
    agreement = torch.stack([(a == b).float().mean() for a, b in zip(first, second, strict=True)])
    assert agreement.min() > 0.6  # by chance a quarter


@torch.no_grad()
def test_stage_2_routes_words_alike_in_every_text_and_survives_saving(tmp_path):
    model = stable_model()
    before = model(IDS).router_experts
    model.set_router_stage(2)
    after = model(IDS).router_experts
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    for layer in after:
        assert layer[1].tolist() == layer[7].tolist()  # token 5 at places 1 and 2
    folder = save_nomic_moe(model, tmp_path / "model", tokenizer=official_folder(tmp_path / "tokenizer"))
    loaded = load_nomic_moe(folder)
    assert loaded.sizes.router_stage == loaded.config.router_stage == 2
    assert not loaded.router_embeddings.weight.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(loaded(IDS).router_experts, after, strict=True))
    loaded.set_router_stage(1)
    assert all(torch.equal(a, b) for a, b in zip(loaded(IDS).router_experts, before, strict=True))


def test_what_is_frozen_wants_no_gradient():
    model = stable_model()
    model.set_router_stage(2)
    model.train()
    output = model(IDS)
    (output.last_hidden_state.square().sum() + output.auxiliary_loss).backward()
    frozen = {name for name, p in model.named_parameters() if p.grad is None}
    light = {name for name, _ in model.named_parameters() if ".light." in name}
    assert frozen == light | {"router_embeddings.weight"}
    assert output.auxiliary_loss == 0


def test_stages_are_checked():
    with pytest.raises(InputError, match="router_stage must be 1, or 2 with the router 'stable', got 3"):
        stable_model().set_router_stage(3)
    with pytest.raises(InputError, match="got 2 with 'softmax'"):
        tiny_model().set_router_stage(2)
