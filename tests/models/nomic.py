"""Small NomicMoE models, and the same computed anew: one token at a time, in float64, with numpy alone."""

import json
import math
from pathlib import Path

import numpy as np
import torch

from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.nomic_hub import NomicMoEConfig
from mretrieve.models.nomic_moe import NomicMoEModel

FIXTURE = Path(__file__).resolve().parents[3] / "shared" / "nomic" / "fixture"
ABSENT = "../shared/nomic is not here"

TINY = {
    "vocab_size": 48,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "moe_layers": (1, 2),
    "num_experts": 4,
    "moe_top_k": 2,
}


def tiny_config(**changes):
    return NomicConfig(**(TINY | changes))


def tiny_model(config=None, *, seed=1):
    """Random weights large enough that nothing is near 0: biases, norms and gates all matter."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    config = config or tiny_config()
    model = NomicMoEModel(NomicMoEConfig(**config.to_dict())).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = name.endswith(("norm1.weight", "norm2.weight", "emb_ln.weight"))
            spread = 0.4 if "router" in name else 1.0 if name.startswith("embeddings") else 0.2
            parameter.copy_(torch.randn_like(parameter) * spread + float(norm))
    return model


def official_folder(folder, *, seed=1, **changes):
    """A checkpoint in the official layout, with a tokenizer of the shared test pieces."""
    from safetensors.torch import save_file

    from mretrieve.models.nomic_official import official_config
    from mretrieve.models.unigram import unigram_tokenizer_json
    from tests.conftest import PIECES

    config = tiny_config(num_hidden_layers=4, moe_layers=(1, 3), **changes)
    model = tiny_model(config, seed=seed)
    folder.mkdir()
    save_file(dict(model.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    special = {"bos": 0, "pad": 1, "eos": 2, "unk": 3}
    files = {
        "config.json": official_config(config),
        "tokenizer.json": unigram_tokenizer_json(PIECES, {9: " ", 0xFB01: "fi"}, special=special),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", **tokens},
        "special_tokens_map.json": tokens,
        "sentence_bert_config.json": {"max_seq_length": 30, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {"query": "the ", "passage": "a "}},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def reference(model, ids):
    """One text without padding: hidden states after each layer, router probabilities, chosen experts.

    Written from the architecture's description, not from the code under test.
    """
    c = model.sizes
    w = {name: tensor.detach().double().numpy() for name, tensor in model.state_dict().items()}
    d = c.hidden_size // c.num_attention_heads
    x = [
        w["embeddings.word_embeddings.weight"][i] + w["embeddings.token_type_embeddings.weight"][0]
        for i in ids
    ]
    if c.position_embedding_type == "absolute":
        table = w["embeddings.position_embeddings.weight"]
        x = [row + table[c.first_position + place] for place, row in enumerate(x)]
    x = [_norm(row, w, "emb_ln", c) for row in x]
    states, probabilities, choices = [np.stack(x)], [], []
    for i in range(c.num_hidden_layers):
        prefix = f"encoder.layers.{i}."
        q, k, v = [], [], []
        for place, row in enumerate(x):
            qkv = _linear(row, w, f"{prefix}attn.Wqkv").reshape(3, c.num_attention_heads, d)
            q.append([_rotate(head, place, c) for head in qkv[0]])
            k.append([_rotate(head, place, c) for head in qkv[1]])
            v.append(qkv[2])
        after = []
        for place, row in enumerate(x):
            heads = []
            for head in range(c.num_attention_heads):
                scores = np.array([q[place][head] @ k[other][head] for other in range(len(x))])
                weights = _softmax(scores / math.sqrt(d))
                heads.append(sum(weights[other] * v[other][head] for other in range(len(x))))
            mixed = _linear(np.concatenate(heads), w, f"{prefix}attn.out_proj")
            after.append(_norm(row + mixed, w, f"{prefix}norm1", c))
        x = []
        if i in c.moe_layers:
            probabilities.append([])
            choices.append([])
        for h in after:
            if i in c.moe_layers:
                y, p, best = _experts(h, w, f"{prefix}mlp.", c)
                probabilities[-1].append(p)
                choices[-1].append(best)
            else:
                y = _linear(_act(_linear(h, w, f"{prefix}mlp.fc1"), c), w, f"{prefix}mlp.fc2")
            x.append(_norm(h + y, w, f"{prefix}norm2", c))
        states.append(np.stack(x))
    return np.stack(states), probabilities, choices


def _experts(h, w, prefix, c):
    p = _softmax(w[f"{prefix}router.layer.weight"] @ h)
    best = sorted(range(c.num_experts), key=lambda e: -p[e])[: c.moe_top_k]
    scale = sum(p[e] for e in best) if c.normalize_gates else 1.0
    y = w[f"{prefix}experts.bias"].copy()
    for e in best:
        rows = range(e * c.intermediate_size, (e + 1) * c.intermediate_size)
        for row in rows:
            inner = w[f"{prefix}experts.mlp.w1"][row] @ h
            if c.expert_biases:
                inner += w[f"{prefix}experts.mlp.b1"][row]
            y += p[e] / scale * _act(np.array([inner]), c)[0] * w[f"{prefix}experts.mlp.w2"][row]
    return y, p, best


def _rotate(head, place, c):
    if c.position_embedding_type != "rotary":
        return head
    n = int(len(head) * c.rotary_fraction)
    out = head.copy()
    for j in range(n // 2):
        a, b = (2 * j, 2 * j + 1) if c.rotary_interleaved else (j, j + n // 2)
        turned = complex(head[a], head[b]) * np.exp(1j * place * c.rotary_base ** (-2 * j / n))
        out[a], out[b] = turned.real, turned.imag
    return out


def _linear(x, w, name):
    return w[f"{name}.weight"] @ x + w.get(f"{name}.bias", 0.0)


def _norm(x, w, name, c):
    return (x - x.mean()) / math.sqrt(x.var() + c.layer_norm_eps) * w[f"{name}.weight"] + w[f"{name}.bias"]


def _softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def _act(x, c):
    if c.hidden_act == "relu":
        return np.maximum(x, 0)
    if c.hidden_act == "gelu_pytorch_tanh":
        return np.array([v / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in x])
    return np.array([v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x])
