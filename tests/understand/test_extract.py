import json
from dataclasses import replace

import numpy as np
import pytest

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.models.nomic_files import load_nomic_moe, save_nomic_moe
from mretrieve.models.upcycle import upcycle
from mretrieve.understand.extract import ExtractPlan, extract
from mretrieve.understand.parallel import read_parallel
from mretrieve.understand.running import TextModel
from tests.conftest import SHARED, make_checkpoint

PARALLEL = SHARED / "parallel" / "ntrex-128.jsonl.xz"


@pytest.fixture(scope="module")
def made(sparse, parallel, tmp_path_factory):
    out = tmp_path_factory.mktemp("extracted") / "de"
    seen = []
    plan = ExtractPlan(["de"], [parallel], experts=2, trim_vocab=True, test=parallel, test_langs=["fr"])
    report = extract(sparse, out, plan, on_progress=lambda *step: seen.append(step))
    return report, out, seen


def test_the_report_says_what_became_smaller(made):
    report, out, _ = made
    model = load_nomic_moe(out)
    assert report.langs == ("de",)
    assert (report.before.experts, report.after.experts) == (4, 2)
    assert report.before.vocabulary == 48
    # 34 pieces but `▁the`; that of padding up to 48 is gone, too. The prompts are "the " and "a ".
    assert report.after.vocabulary == 34
    assert report.after.parameters == sum(p.numel() for p in model.parameters())
    dropped = 2 * (2 * 2 * 40 * 32 + 2 * 32) + 14 * 32  # two experts of two layers with router rows; words
    assert report.before.parameters - report.after.parameters == dropped
    assert report.before.weight_bytes - report.after.weight_bytes > 4 * dropped - 1000
    assert [one.lang for one in report.quality] == ["en", "de", "fr"]
    assert [one.kept for one in report.quality] == [False, True, False]
    assert report.experts.keys() == report.slots_kept.keys() == {1, 3}
    assert all(0.5 <= share <= 1 for share in report.slots_kept.values())


def test_it_is_written_beside_the_model(made):
    report, out, seen = made
    content = json.loads((out / "extract.json").read_text(encoding="utf-8"))
    assert content["langs"] == ["de"]
    assert content["experts"] == {str(layer): numbers for layer, numbers in report.experts.items()}
    assert content["after"]["parameters"] == report.after.parameters
    assert content["quality"][1]["cosine"] == round(report.quality[1].cosine, 4)
    assert content["speed"]["ratio"] == round(report.speed.ratio, 3)
    assert {step[0] for step in seen} == {"choosing experts", "testing"}
    assert seen[-1] == ("testing", 3, 3)


def test_other_programs_load_it(made):
    from sentence_transformers import SentenceTransformer

    _, out, _ = made
    texts = ["das gering", "ein king"]
    expected = TextModel(out).embed(texts)
    theirs = SentenceTransformer(str(out), device="cpu")
    assert np.abs(theirs.encode(texts, prompt_name="passage") - expected).max() < 1e-5
    assert np.abs(Encoder(str(out), dtype="fp32").encode_documents(texts) - expected).max() < 1e-5


def test_the_experts_kept_are_those_that_the_language_uses(made, sparse, parallel):
    from mretrieve.understand.statistics import routing_statistics

    report, _, _ = made
    texts = read_parallel(parallel, langs=["de"]).texts["de"]
    found = routing_statistics(TextModel(sparse), texts, lang="de")
    for place, kept in enumerate(report.experts.values()):
        assert int(found.firsts[place].argmax()) in kept


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_a_dense_encoder_may_be_trimmed(tmp_path, parallel, kind):
    base = make_checkpoint(_made(tmp_path / "base"), kind=kind, pooling="cls", prompts={"passage": "a "})
    report = extract(base, tmp_path / "out", ExtractPlan(["de"], [parallel], trim_vocab=True))
    assert report.after.vocabulary == 33
    assert report.experts is None
    texts = read_parallel(parallel, langs=["de"]).texts["de"]
    assert np.abs(TextModel(tmp_path / "out").embed(texts) - TextModel(base).embed(texts)).max() < 1e-6


def test_a_model_without_prompts_gets_none(tmp_path, parallel):
    base = make_checkpoint(_made(tmp_path / "base"))
    extract(base, tmp_path / "out", ExtractPlan(["de"], [parallel], trim_vocab=True))
    settings = json.loads((tmp_path / "out" / "config_sentence_transformers.json").read_text())
    assert settings["prompts"] == {}


def test_half_precision_stays(tmp_path, sparse, parallel):
    import torch

    half = load_nomic_moe(sparse, dtype=torch.bfloat16)
    save_nomic_moe(half, tmp_path / "half", tokenizer=sparse)
    report = extract(tmp_path / "half", tmp_path / "out", ExtractPlan(["de"], [parallel], experts=3))
    assert report.after.weight_bytes < report.before.weight_bytes


def _made(folder):
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"langs": []}, "Name the languages to keep"),
        ({"langs": ["germn"]}, "Unknown language 'germn'. Did you mean 'de'"),
        ({"langs": ["sw"]}, "no text in 'sw'"),
        ({"experts": None}, "Say what to drop"),
        ({"texts": []}, "Give text of these languages"),
        ({"experts": 1}, "between 2, which each token goes to, and 4"),
        ({"experts": 9}, "between 2, which each token goes to, and 4"),
        ({"test_langs": ["yo"]}, "no text in 'yo'"),
        ({"limit": 0}, "at least 1, got 0"),
        ({"test_limit": 0}, "at least 1, got 0"),
    ],
)
def test_plans_that_cannot_be_followed(sparse, parallel, tmp_path, plan, message):
    wanted = {"langs": ["de"], "texts": [parallel], "experts": 2, "test": parallel} | plan
    with pytest.raises(InputError, match=message):
        extract(sparse, tmp_path / "out", ExtractPlan(**wanted))
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_left_alone(sparse, parallel, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="exists already"):
        extract(sparse, tmp_path, ExtractPlan(["de"], [parallel], experts=2))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")
def test_e5_small_with_experts_for_german(e5_folder, tmp_path):
    """Real text: pieces and embeddings of the sample stay, and of other languages most is lost."""
    sparse = upcycle(e5_folder, moe_layers=[11], num_experts=4, top_k=1)
    save_nomic_moe(sparse, tmp_path / "sparse", tokenizer=e5_folder)
    plan = ExtractPlan(["de"], [PARALLEL], experts=2, trim_vocab=True, test=PARALLEL, test_langs=["ru"])
    plan = replace(plan, limit=24, test_limit=24)
    report = extract(tmp_path / "sparse", tmp_path / "de", plan)
    assert report.after.parameters < 0.3 * report.before.parameters
    by_lang = {one.lang: one for one in report.quality}
    assert by_lang["de"].tokens_ratio == 1.0
    assert by_lang["de"].cosine > 0.999999, "the experts are copies of one network"
    assert by_lang["de"].accuracy_against_old == by_lang["de"].accuracy_before
    assert by_lang["ru"].accuracy_after < 0.7 * by_lang["ru"].accuracy_before
    texts = read_parallel(PARALLEL, langs=["de"], limit=24).texts["de"]
    old, new = TextModel(tmp_path / "sparse"), TextModel(tmp_path / "de")
    assert np.abs(old.embed(texts) - new.embed(texts)).max() < 1e-6
