import pytest
import torch

from mretrieve.errors import InputError
from mretrieve.models.routers import RoutingContext, make_router
from tests.models.nomic import tiny_config, tiny_model

LENGTHS = [3, 3, 5]
IDS = torch.tensor([0, 5, 9, 0, 7, 8, 0, 9, 4, 6, 2])


def experts_of(model, **options):
    with torch.no_grad():
        output = model.forward_packed(IDS, LENGTHS, **options)
    return [layer.split(LENGTHS) for layer in output.router_experts]


@pytest.mark.parametrize("name", ["sequence", "language"])
def test_all_tokens_of_a_text_go_to_the_same_experts(name):
    model = tiny_model(tiny_config(router=name, languages=("de", "sw")))
    for layer in experts_of(model, language_ids=torch.tensor([1, 2, 0])):
        for text in layer:
            assert (text == text[0]).all()


def test_a_sequence_is_routed_by_its_mean():
    router = make_router(tiny_config(router="sequence"))
    with torch.no_grad():
        router.layer.weight.copy_(torch.eye(4, 32))
        x = torch.zeros(2, 32)
        x[0, 1], x[1, 3] = 4.0, 2.0
        routing = router(x, RoutingContext.packed(torch.zeros(2), [2]))
    wanted = torch.tensor([0.0, 2.0, 0.0, 1.0]).softmax(0)
    assert routing.experts.tolist() == [[1, 3], [1, 3]]
    torch.testing.assert_close(routing.gates[1], wanted[[1, 3]])


def test_languages_have_their_own_row_and_what_is_unknown_shares_one():
    router = make_router(tiny_config(router="language", languages=("de", "sw"))).eval()
    with torch.no_grad():
        router.languages.weight.copy_(torch.tensor([[4.0, 3, 0, 0], [0, 4, 3, 0], [0, 0, 4, 3]]))

    def chosen(ids):
        context = RoutingContext.packed(torch.zeros(4), [1] * 4, ids)
        return router(torch.zeros(4, 32), context).experts.tolist()

    unknown, de, sw = [0, 1], [1, 2], [2, 3]
    assert chosen(torch.tensor([2, 0, 1, 2])) == [sw, unknown, de, sw]
    assert chosen(torch.tensor([3, -1, 1, 1])) == [unknown, unknown, de, de]
    assert chosen(None) == [unknown] * 4


def test_the_language_of_a_share_of_texts_is_withheld_in_training():
    config = tiny_config(router="language", languages=("de",), language_dropout=0.25)
    router = make_router(config).train()
    with torch.no_grad():
        router.languages.weight.copy_(torch.tensor([[4.0, 3, 0, 0], [0, 0, 4, 3]]))
    torch.manual_seed(1)
    context = RoutingContext.packed(torch.zeros(4000), [1] * 4000, torch.ones(4000, dtype=torch.long))
    withheld = router(torch.zeros(4000, 32), context).experts[:, 0] == 0
    assert withheld.float().mean().item() == pytest.approx(0.25, abs=0.02)
    router.eval()
    assert not (router(torch.zeros(4000, 32), context).experts[:, 0] == 0).any()


def test_the_config_says_which_id_a_language_has():
    config = tiny_config(router="language", languages=("de", "sw"))
    assert [config.language_id(code) for code in ("de", "sw", "yo")] == [1, 2, 0]


def test_padded_and_packed_batches_agree_and_languages_matter():
    model = tiny_model(tiny_config(router="language", languages=("de", "sw")))
    ids = torch.tensor([[0, 5, 9, 1], [0, 7, 8, 2]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    languages = torch.tensor([1, 2])
    with torch.no_grad():
        padded = model(ids, mask, language_ids=languages).last_hidden_state[mask.bool()]
        packed = model.forward_packed(ids[mask.bool()], [3, 4], language_ids=languages).last_hidden_state
        other = model(ids, mask).last_hidden_state[mask.bool()]
    torch.testing.assert_close(padded, packed, rtol=0, atol=1e-5)
    assert not torch.allclose(padded, other, atol=1e-2)


def test_a_wrong_number_of_languages_is_refused():
    model = tiny_model(tiny_config(router="language", languages=("de",)))
    with pytest.raises(InputError, match="one id for each of the 3 texts"):
        experts_of(model, language_ids=torch.tensor([1, 1]))
