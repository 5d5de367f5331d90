"""What a batch holds: tokens with prompts, and beside them what the losses ask for."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from mretrieve.encode.encoder import Encoder
from mretrieve.models.upcycle import upcycle
from mretrieve.train.collator import Collator
from mretrieve.train.objectives import Objective
from mretrieve.train.student import RouterLoss, load_student, prepare
from mretrieve.train.teacher import Teacher

PROMPTS = {"query": "q ", "passage": "p "}


def row(number, **changes):
    return {
        "dataset_name": "a",
        "anchor": f"ab{'c' * number}",
        "positive": f"de{'f' * number}",
        "negative_1": f"gh{'i' * number}",
        "language": "en",
        "positive_language": "de",
        "source": "here",
        "anchor_id": f"q{number}",
        "positive_id": f"d{number}",
        "group": f"g{number // 2}",
        "target": "",
        "scores": [2.0, 1.0, 0.5],
    } | changes


@pytest.fixture(scope="module")
def student(base):
    return SentenceTransformer(str(base), device="cpu")


def collate(student, rows, teacher=None, **objective):
    return Collator(student, {"a": Objective(data="x/a", **objective)}, PROMPTS, teacher)(rows)


def test_texts_have_the_prompts_of_their_roles(student):
    batch = collate(student, [row(0), row(1)], ranking={}, negatives=1)
    for column, prompt in (("anchor", "q "), ("positive", "p "), ("negative_1", "p ")):
        expected = student.preprocess([prompt + row(i)[column] for i in (0, 1)])["input_ids"]
        assert torch.equal(batch[f"{column}_input_ids"], expected)
    assert batch["example_ids"] == ["here q0 d0", "here q1 d1"]
    assert not any("language_ids" in key for key in batch)
    assert batch["label"].keys() == {"groups", "texts", "languages"}, "no more than the losses ask for"


def test_an_example_always_has_the_same_roles(student):
    rows = [row(number) for number in range(8)]
    both = [["passage", "passage"], ["query", "query"]]
    batch = collate(student, rows, ranking={}, prompts=both)
    again = collate(student, rows[::-1], ranking={}, prompts=both)
    starts = [student.preprocess([start])["input_ids"][0, 1:-1].tolist() for start in ("p a", "q a")]
    found = [ids[1:4].tolist() for ids in batch["anchor_input_ids"]]
    assert sorted(map(str, {str(ids[:2]) for ids in found})) == sorted(str(ids[:2]) for ids in starts)
    for column in ("anchor", "positive"):
        mirrored = again[f"{column}_input_ids"].flip(0)
        assert torch.equal(batch[f"{column}_input_ids"], mirrored)


def test_equal_texts_groups_and_languages_have_equal_numbers(student):
    rows = [row(0), row(1), row(2, positive="de"), row(3, negative_languages=["fr"])]
    labels = collate(student, rows, ranking={}, negatives=1)["label"]
    groups, texts, languages = (labels[name] for name in ("groups", "texts", "languages"))
    assert groups[0] == groups[1] and groups[1] != groups[2]
    assert texts[0, 1] == texts[2, 1] != texts[1, 1]
    assert languages[0, 1] == languages[0, 2] != languages[0, 0]
    assert languages[3, 2] not in (languages[3, 0], languages[3, 1]), "of the negative itself"


def test_the_teacher_gives_vectors_and_targets(student, base):
    rows = [row(0, target="english"), row(1)]
    teacher = Teacher(str(base), device="cpu")
    labels = collate(student, rows, teacher, similarities={}, targets={})["label"]
    encoder = Encoder(str(base), device="cpu")
    anchors = encoder.encode_queries([one["anchor"] for one in rows])
    np.testing.assert_allclose(labels["teacher"][:, 0], anchors, atol=2e-2)
    assert labels["has_target"].tolist() == [True, False]
    as_query, as_passage = encoder.encode_queries(["english"]), encoder.encode_documents(["english"])
    np.testing.assert_allclose(labels["targets"][0], np.concatenate([as_query, as_passage]), atol=2e-2)


def test_scores_are_of_the_columns_that_are_used(student):
    labels = collate(student, [row(0), row(1)], scores={}, negatives=1)["label"]
    assert labels["scores"].tolist() == [[2.0, 1.0], [2.0, 1.0]]


def test_a_router_of_languages_hears_them(base, tmp_path):
    from mretrieve.models.nomic_files import save_nomic_moe

    model = upcycle(
        base, moe_layers=[1], num_experts=4, router="language", languages=["de", "sw"], language_dropout=0.0
    )
    save_nomic_moe(model, tmp_path / "moe", tokenizer=base, prompts=PROMPTS, max_length=30)
    student = load_student(str(tmp_path / "moe"), max_tokens=24, device="cpu")
    prepare(student, unpadded=True, router_loss=RouterLoss(), coefficients={})
    batch = collate(
        student, [row(0), row(3, positive_language="sw", negative_languages=["de"])], ranking={}, negatives=1
    )
    assert batch["anchor_language_ids"].tolist() == [0, 0], "English has no row"
    assert batch["positive_language_ids"].tolist() == [1, 2]
    assert batch["negative_1_language_ids"].tolist() == [1, 1]
    heard = []
    encoder = student[0].model
    packed = encoder.forward_packed
    encoder.forward_packed = lambda *a, **k: heard.append(k["language_ids"].tolist()) or packed(*a, **k)
    features = {
        key.removeprefix("positive_"): value for key, value in batch.items() if key.startswith("positive_")
    }
    student(features)
    assert heard == [[1, 2]], "the shorter text comes first"
