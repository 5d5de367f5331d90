import numpy as np
import pytest
from mretrieve.ui.experts import Routing, describe_experts, heat_maps, route, sparse_config

from mretrieve import InputError
from mretrieve.index.manifest import read_manifest


def test_which_indexes_have_experts(sparse_index, small_index, words_index):
    config = sparse_config(read_manifest(sparse_index))
    assert config is not None and config.moe_layers
    assert str(config.num_experts) in describe_experts(config)
    assert sparse_config(read_manifest(small_index)) is None
    assert sparse_config(read_manifest(words_index)) is None


def test_routing_of_a_query(sparse_model, sparse_index):
    config = sparse_config(read_manifest(sparse_index))
    routing = route(str(sparse_model), "the cab", prefix="q ")
    n_tokens = len(routing.tokens)
    assert routing.tokens[0] == "<s>" and routing.tokens[-1] == "</s>"
    assert "".join(routing.tokens[1:-1]).replace("▁", " ").strip() == "q the cab"
    shape = (n_tokens, len(config.moe_layers), config.num_experts)
    assert routing.probabilities.shape == routing.used.shape == shape
    np.testing.assert_allclose(routing.probabilities.sum(-1), 1, atol=1e-5)
    assert (routing.used.sum(-1) == config.moe_top_k).all()
    # The experts used are the likeliest.
    likeliest = np.argsort(-routing.probabilities, axis=-1)[..., : config.moe_top_k]
    assert np.take_along_axis(routing.used, likeliest, axis=-1).all()


def test_prompt_and_special_tokens_are_no_text(sparse_model):
    with_prompt, without = route(str(sparse_model), "cab", prefix="a "), route(str(sparse_model), "cab")
    text = [token for token, inside in zip(with_prompt.tokens, with_prompt.is_text, strict=True) if inside]
    assert text == list(without.tokens[1:-1])
    assert without.is_text == (False, *[True] * len(text), False)


def test_long_texts_are_cut(sparse_model):
    routing = route(str(sparse_model), "the cab " * 500)
    assert len(routing.tokens) == len(routing.is_text) == len(routing.probabilities) <= 128


def test_models_without_experts_and_empty_texts(model, sparse_model):
    with pytest.raises(InputError, match="no layers of experts"):
        route(str(model), "cab")
    with pytest.raises(InputError, match="Give some text"):
        route(str(sparse_model), "  ")


def routing_by_hand():
    probabilities = np.array([[[0.5, 0.5]], [[0.9, 0.1]], [[0.25, 0.75]]], np.float32)
    return Routing(("<s>", "▁a", "<b>"), (False, True, True), (3,), probabilities, probabilities > 0.6)


def test_heat_maps():
    html = heat_maps(routing_by_hand())
    assert html.count("<svg") == 4  # the mean and three tokens
    assert html.count("<rect") == 8
    assert "layer 3, expert 0: 90%" in html and "&lt;b&gt;" in html and "<b>" not in html
    assert "2 tokens" in html
    # The text's two tokens use one expert each, so each does half of the work.
    assert "<td class='number'>50</td><td class='number'>50</td>" in html


def test_numbers_for_json():
    said = routing_by_hand().to_dict()
    assert said["experts"] == [[[]], [[0]], [[1]]]
    assert said["layers"] == [3] and said["is_text"] == [False, True, True]


def test_nothing_but_the_prompt():
    routing = Routing(("<s>",), (False,), (0,), np.ones((1, 1, 1), np.float32), np.ones((1, 1, 1), bool))
    assert "no tokens" in heat_maps(routing)
