"""The random checkpoint is a real one, and what is counted of it is right."""

import math
from dataclasses import replace

import numpy as np
import pytest
from llama_peer import _gguf_name
from nomic_shape import V2, active_flops, text_lengths, token_ids, write_checkpoint

from mretrieve.encode.flat_nomic import FlatNomic
from mretrieve.models.nomic_shapes import tensor_shapes
from mretrieve.models.weights import read_weights

SMALL = replace(
    V2,
    vocab_size=50,
    hidden_size=32,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=40,
    moe_layers=(1, 3),
)


def test_it_has_the_parameters_of_the_published_model():
    assert sum(math.prod(shape) for shape in tensor_shapes(V2).values()) == 475_292_928
    assert len(tensor_shapes(V2)) == 148


def test_the_checkpoint_is_whole_and_loads(tmp_path):
    write_checkpoint(tmp_path, SMALL)
    tensors = read_weights(tmp_path)
    assert tensors["emb_ln.weight"].mean() == pytest.approx(1, abs=0.02)
    assert tensors["emb_ln.bias"].mean() == pytest.approx(0, abs=0.02)
    assert tensors["encoder.layers.1.mlp.experts.mlp.w1"].std() == pytest.approx(0.02, rel=0.05)
    assert not tensors["encoder.layers.1.mlp.experts.bias"].any()
    states = FlatNomic(tmp_path).hidden_states([np.arange(4, 20, dtype=np.int32)])
    assert states.shape == (16, 32)
    assert np.isfinite(states).all()


def test_lengths_are_as_promised():
    lengths = text_lengths(20_000)
    assert np.mean(lengths) == pytest.approx(100, rel=0.03)
    assert (min(lengths), max(lengths)) == (8, 512)
    assert text_lengths(5) == text_lengths(5)
    assert [len(ids) for ids in token_ids([3, 9])] == [3, 9]


def test_operations_by_hand():
    # Two layers, one with an expert of two: per token 2 * (4 * 2 * 2 + 2 * 2 * 3) each; attention 4 * 2 * n².
    sizes = {"hidden_size": 2, "num_attention_heads": 1, "intermediate_size": 3, "num_hidden_layers": 2}
    tiny = replace(SMALL, **sizes, moe_layers=(1,), num_experts=2, moe_top_k=1)
    assert active_flops([5], tiny) == 2 * (5 * 2 * (16 + 12) + 8 * 25)
    assert active_flops([5], replace(tiny, moe_top_k=2)) == active_flops([5], tiny) + 5 * 2 * 12


def test_every_tensor_has_a_name_in_llama_cpp():
    names = {_gguf_name(name) for name in tensor_shapes(SMALL) if not name.endswith("experts.bias")}
    assert {name.replace("blk.1.", "") for name in names if name.startswith("blk.1.")} == {
        *(f"attn_{part}.{kind}" for part in ("qkv", "output", "output_norm") for kind in ("weight", "bias")),
        *("layer_output_norm.weight", "layer_output_norm.bias", "ffn_gate_inp.weight"),
        *("ffn_up_exps.weight", "ffn_down_exps.weight"),
    }
    dense = {name.replace("blk.0.", "") for name in names if name.startswith("blk.0.ffn")}
    assert dense == {"ffn_up.weight", "ffn_up.bias", "ffn_down.weight", "ffn_down.bias"}
    outside = {name for name in names if not name.startswith("blk.")}
    embeddings = {"token_embd.weight", "token_types.weight"}
    assert outside == embeddings | {"token_embd_norm.weight", "token_embd_norm.bias"}
