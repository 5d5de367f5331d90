import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mretrieve.errors import InputError
from mretrieve.models.config_file import read_nomic_config
from mretrieve.models.nomic_files import load_nomic_moe, save_nomic_moe
from mretrieve.models.register import register
from tests.models.nomic import ABSENT, FIXTURE, official_folder, tiny_config, tiny_model

EXPERTS = "encoder.layers.3.mlp.experts.mlp.w2"


@pytest.fixture
def official(tmp_path):
    return official_folder(tmp_path / "official")


def change(folder, edit):
    """Rewrite the folder's tensors."""
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def hidden(model):
    with torch.no_grad():
        return model(torch.tensor([[0, 5, 9, 2]])).last_hidden_state


def test_official_weights_are_loaded_as_they_are(official):
    model = load_nomic_moe(official)
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    for name, tensor in load_file(official / "model.safetensors").items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_other_dtypes(official):
    assert {p.dtype for p in load_nomic_moe(official, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}
    wanted = hidden(load_nomic_moe(official))
    change(official, lambda tensors: tensors.update({n: t.half() for n, t in tensors.items()}))
    torch.testing.assert_close(hidden(load_nomic_moe(official)), wanted, rtol=0, atol=0.05)


@pytest.mark.parametrize("as_official", [False, True])
def test_what_is_saved_is_loaded_again(official, tmp_path, as_official):
    model = load_nomic_moe(official)
    folder = save_nomic_moe(model, tmp_path / "new" / "ours", tokenizer=official, official=as_official)
    again = load_nomic_moe(folder)
    assert again.sizes == model.sizes
    assert torch.equal(hidden(again), hidden(model))
    assert load_file(folder / "model.safetensors").keys() == load_file(official / "model.safetensors").keys()
    assert (json.loads((folder / "config.json").read_text())["model_type"] == "nomic_bert") == as_official
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["ours"]


def test_the_folder_has_old_and_new_keys(official, tmp_path):
    folder = save_nomic_moe(load_nomic_moe(official), tmp_path / "ours", tokenizer=official)
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"] is True
    assert pooling["pooling_mode"] == "mean"
    assert pooling["word_embedding_dimension"] == pooling["embedding_dimension"] == 32
    assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == 30
    prompts = json.loads((folder / "config_sentence_transformers.json").read_text())["prompts"]
    assert prompts == {"query": "the ", "passage": "a "}
    other = save_nomic_moe(
        load_nomic_moe(official),
        tmp_path / "other",
        tokenizer=official,
        prompts={"query": "q: "},
        max_length=999,
    )
    assert json.loads((other / "sentence_bert_config.json").read_text())["max_seq_length"] == 64
    assert json.loads((other / "config_sentence_transformers.json").read_text())["prompts"] == {
        "query": "q: "
    }


def test_sentence_transformers_loads_the_folder(official, tmp_path):
    from sentence_transformers import SentenceTransformer

    register()
    model = load_nomic_moe(official)
    folder = save_nomic_moe(model, tmp_path / "ours", tokenizer=official)
    library = SentenceTransformer(str(folder), device="cpu", trust_remote_code=False)
    texts = ["a thing", "the longest sentence of them all", ""]
    found = library.encode(texts, prompt_name="query")
    for text, row in zip(texts, found, strict=True):
        ids = torch.tensor([library.tokenizer("the " + text)["input_ids"]])
        with torch.no_grad():
            mean = model(ids).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(row, (mean / mean.norm()).numpy(), rtol=0, atol=1e-5)
    library.save(str(tmp_path / "theirs"))
    assert torch.equal(hidden(load_nomic_moe(tmp_path / "theirs")), hidden(model))


@pytest.mark.parametrize("kind", ["rotary", "absolute"])
def test_auto_model_loads_the_folder(official, tmp_path, kind):
    from transformers import AutoConfig, AutoModel

    register()
    model = load_nomic_moe(official)
    if kind == "absolute":
        changes = {"position_embedding_type": "absolute", "first_position": 2, "type_vocab_size": 2}
        model = tiny_model(tiny_config(**changes, expert_biases=True))
    folder = save_nomic_moe(model, tmp_path / "ours", tokenizer=official)
    assert AutoConfig.from_pretrained(folder).sizes == model.sizes
    assert torch.equal(hidden(AutoModel.from_pretrained(folder).eval()), hidden(model))
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "theirs")
    assert torch.equal(hidden(load_nomic_moe(tmp_path / "theirs")), hidden(model))


@pytest.mark.skipif(not FIXTURE.exists(), reason=ABSENT)
@pytest.mark.parametrize("side", ["query", "passage"])
def test_sentence_transformers_gives_the_official_embeddings(tmp_path, side):
    from sentence_transformers import SentenceTransformer

    register()
    folder = save_nomic_moe(load_nomic_moe(FIXTURE), tmp_path / "ours", tokenizer=FIXTURE)
    texts = json.loads((FIXTURE / "reference" / "texts.json").read_text(encoding="utf-8"))[side]["texts"]
    found = SentenceTransformer(str(folder), device="cpu").encode(texts, prompt_name=side)
    with np.load(FIXTURE / "reference" / f"text_{side}.npz") as wanted:
        np.testing.assert_allclose(found, wanted["embeddings"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop(EXPERTS), rf"lacks 1 tensor\(s\): {EXPERTS}\."),
        (lambda t: t.update(extra=torch.ones(2)), r"has 1 tensor\(s\): extra that its config does not know"),
        (
            lambda t: t.update({EXPERTS: torch.ones(3, 32)}),
            rf"wrong shape in 1 tensor\(s\): {EXPERTS} \(3, 32\) instead of \(160, 32\)",
        ),
        (
            lambda t: t.update({"y": torch.ones(2), "emb_ln.bias": torch.ones(2), "x": t.pop(EXPERTS)}),
            rf"lacks 1 .*: {EXPERTS}, and has 2 .*: x, y that .* emb_ln.bias \(2,\) instead of \(32,\)",
        ),
        (lambda t: [t.pop(n) for n in list(t) if "norm" in n], r"lacks 16 tensor\(s\): .* and 11 more"),
    ],
    ids=["missing", "extra", "shape", "all", "many"],
)
def test_wrong_tensors_are_named(official, edit, message):
    change(official, edit)
    with pytest.raises(InputError, match=message):
        load_nomic_moe(official)


@pytest.mark.parametrize("keep", [0.001, 0.5, 0.999])
def test_a_truncated_file_is_named(official, keep):
    file = official / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load_nomic_moe(official)


def test_wrong_configs_are_named(official, tmp_path):
    with pytest.raises(InputError, match=r"has no config\.json"):
        load_nomic_moe(tmp_path)
    file = official / "config.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"moe_every_n_layers": 0}))
    with pytest.raises(InputError, match=r"config\.json: .*moe_every_n_layers must be at least 2, got 0"):
        load_nomic_moe(official)
    file.write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match=r"config\.json: .*model_type 'bert'"):
        read_nomic_config(official)
    for text in ("{", "[1]"):
        file.write_text(text)
        with pytest.raises(InputError, match=r"config\.json"):
            read_nomic_config(official)


def test_pooling_and_norm_are_taken_over(official, tmp_path):
    types = ["Transformer", "Pooling"]
    (official / "1_Pooling").mkdir()
    modules = [{"path": f"{i}_{t}" if i else "", "type": f"s.models.{t}"} for i, t in enumerate(types)]
    (official / "modules.json").write_text(json.dumps(modules))
    (official / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    model = load_nomic_moe(official)
    folder = save_nomic_moe(model, tmp_path / "ours", tokenizer=official)
    assert len(json.loads((folder / "modules.json").read_text())) == 2
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode"] == "cls"
    assert (pooling["pooling_mode_cls_token"], pooling["pooling_mode_mean_tokens"]) == (True, False)
    (official / "modules.json").write_text(
        json.dumps([*modules, {"path": "2_LayerNorm", "type": "LayerNorm"}])
    )
    with pytest.raises(InputError, match=r"modules Transformer, Pooling, LayerNorm"):
        save_nomic_moe(model, tmp_path / "other", tokenizer=official)


def test_no_folder_is_overwritten(official, tmp_path):
    model = load_nomic_moe(official)
    with pytest.raises(InputError, match="exists already"):
        save_nomic_moe(model, official, tokenizer=official)
    with pytest.raises(InputError, match=r"has no tokenizer\.json"):
        save_nomic_moe(model, tmp_path / "new", tokenizer=tmp_path)
    changed = tiny_model(tiny_config(expert_biases=True))
    with pytest.raises(InputError, match="save in our own format"):
        save_nomic_moe(changed, tmp_path / "new", tokenizer=official, official=True)
    assert not (tmp_path / "new").exists()


MEASURE = """
import re, sys, torch
from pathlib import Path
from mretrieve.models.nomic_files import load_nomic_moe
def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
torch.set_num_threads(1)
ids = torch.tensor([[5, 6, 7]])
with torch.no_grad():
    load_nomic_moe(sys.argv[1])(ids)
    before = kilobytes("VmRSS")
    model = load_nomic_moe(sys.argv[2])
    total = sum(float(p.sum()) for p in model.parameters())
print((kilobytes("VmHWM") - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_loading_takes_no_second_copy(official, tmp_path):
    large = official_folder(tmp_path / "large", vocab_size=800_000)
    size = (large / "model.safetensors").stat().st_size
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, official, large], capture_output=True, text=True, check=True
    )
    assert size > 100e6
    assert int(run.stdout) <= 1.2 * size
