"""The student computes the same without padding, and its routers' losses reach the gradient as if added."""

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.models.nomic_files import load_nomic_moe, save_nomic_moe
from mretrieve.train.student import (
    RouterLoss,
    encoder_of,
    freeze,
    load_student,
    prepare,
    save_student,
)
from tests.models.nomic import official_folder

TEXTS = ["the cat", "a", "king of the dogs", "the the the the the", "b"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small sparse model in our format."""
    torch.set_num_threads(1)
    parent = tmp_path_factory.mktemp("student")
    official = official_folder(parent / "official")
    return save_nomic_moe(load_nomic_moe(official), parent / "ours", tokenizer=official)


def load(folder, *, unpadded, **coefficients):
    student = load_student(str(folder), max_tokens=20, device="cpu")
    router_loss = RouterLoss(scale=0.5)
    prepare(student, unpadded=unpadded, router_loss=router_loss, coefficients=coefficients)
    return student.train(), router_loss


def embed(student, texts=TEXTS):
    return student(student.preprocess(texts))["sentence_embedding"]


def gradients(student):
    return {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}


def test_without_padding_values_and_gradients_are_the_same(folder):
    found = []
    for unpadded in (False, True):
        student, _ = load(folder, unpadded=unpadded, router_aux_loss_coef=0.1)
        vectors = embed(student)
        (vectors @ torch.ones(vectors.shape[1])).square().sum().backward()
        found.append((vectors.detach(), gradients(student)))
    torch.testing.assert_close(found[0][0], found[1][0])
    assert found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(gradient, found[1][1][name], msg=name, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("unpadded", [False, True])
def test_the_routers_loss_comes_on_top(folder, unpadded):
    student, router_loss = load(folder, unpadded=unpadded, router_aux_loss_coef=0.3, router_z_loss_coef=0.01)
    embed(student).sum().backward()
    found, value = gradients(student), router_loss.mean()

    plain = load_student(str(folder), max_tokens=20, device="cpu").train()
    encoder = encoder_of(plain)
    prepare(plain, unpadded=False, router_loss=RouterLoss(scale=0.0), coefficients={})
    embed(plain).sum().backward()
    features = plain.preprocess(TEXTS)
    encoder.__dict__.pop("forward")
    prepare(
        plain,
        unpadded=False,
        router_loss=RouterLoss(scale=0.0),
        coefficients={"router_aux_loss_coef": 0.3, "router_z_loss_coef": 0.01},
    )
    loss = encoder.forward(features["input_ids"], features["attention_mask"]).auxiliary_loss
    (0.5 * loss).backward()
    assert value == pytest.approx(float(loss.detach()), rel=1e-4)
    for name, gradient in gradients(plain).items():
        torch.testing.assert_close(gradient, found[name], msg=name, rtol=1e-3, atol=1e-5)
    assert router_loss.mean() == 0, "counted anew after each call"


def test_in_evaluation_no_loss_is_added(folder):
    student, router_loss = load(folder, unpadded=True, router_aux_loss_coef=0.3)
    with torch.no_grad():
        embed(student.eval())
    assert router_loss.mean() == 0


def test_a_head_starts_as_the_identity_and_is_saved(folder, tmp_path):
    plain = SentenceTransformer(str(folder), device="cpu")
    student = load_student(str(folder), max_tokens=20, device="cpu", head=True)
    assert sum(isinstance(module, Dense) for module in student) == 1
    torch.testing.assert_close(embed(student.eval()), embed(plain.eval()))
    with torch.no_grad():
        next(module for module in student if isinstance(module, Dense)).linear.weight.mul_(2).add_(0.1)
    save_student(student, tmp_path / "saved", source=str(folder))
    again = load_student(str(tmp_path / "saved"), max_tokens=20, device="cpu", head=True)
    assert sum(isinstance(module, Dense) for module in again) == 1
    torch.testing.assert_close(embed(again.eval()), embed(student))
    assert Encoder(str(tmp_path / "saved")).document_prefix == Encoder(str(folder)).document_prefix == "a "


def test_a_saved_student_is_an_ordinary_checkpoint(folder, tmp_path):
    student, _ = load(folder, unpadded=True)
    save_student(student, tmp_path / "saved", source=str(folder))
    first, second = load_nomic_moe(folder), load_nomic_moe(tmp_path / "saved")
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert SentenceTransformer(str(tmp_path / "saved"), device="cpu").max_seq_length == 30


def test_freezing_counts_what_is_left(folder):
    student, _ = load(folder, unpadded=True)
    total = sum(p.numel() for p in student.parameters())
    words = encoder_of(student).embeddings.word_embeddings.weight.numel()
    assert freeze(student, ["embeddings.word_embeddings.*"]) == total - words
    with pytest.raises(InputError, match=r"no parameter of the model is named like 'emb\*\.x'"):
        freeze(student, ["emb*.x"])
