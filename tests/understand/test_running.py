import numpy as np
import pytest

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.understand.running import TextModel

TEXTS = ["the king", "a", "singing bees and the sea"]


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_a_dense_encoder_embeds_as_the_encoder_does(checkpoint, kind):
    folder = checkpoint(kind=kind, prompts={"passage": "the "})
    expected = Encoder(str(folder), dtype="fp32").encode_documents(TEXTS)
    assert np.abs(TextModel(folder).embed(TEXTS) - expected).max() < 1e-5


def test_a_sparse_encoder_embeds_as_sentence_transformers_does(sparse):
    from sentence_transformers import SentenceTransformer

    from mretrieve.models.nomic_files import load_nomic_moe, save_nomic_moe

    folder = sparse.parent / "own"
    save_nomic_moe(load_nomic_moe(sparse), folder, tokenizer=sparse)
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, prompt_name="passage")
    assert np.abs(TextModel(sparse).embed(TEXTS) - expected).max() < 1e-5


def test_the_mask_leaves_special_tokens_and_prompt_out(sparse):
    runner = TextModel(sparse)  # the prompt "a " is the pieces "▁" and "a"
    ids = runner.ids(["the cab", "", "a a"])
    batches = list(runner.run(ids))
    mask = batches[0].is_text.numpy()
    assert [len(one) for one in ids] == [9, 5, 8]
    by_row = dict(zip(batches[0].rows, np.split(mask, np.cumsum(batches[0].lengths)[:-1]), strict=True))
    assert by_row[0].tolist() == [False] * 3 + [True] * 5 + [False]  # ▁the ▁ c a b
    assert by_row[1].tolist() == [False] * 3 + [True] + [False]  # the space after the prompt
    assert by_row[2].tolist() == [False] * 3 + [True] * 4 + [False]  # ▁ a ▁ a, the same as the prompt


def test_pooling_that_is_not_known(checkpoint):
    with pytest.raises(InputError, match="makes its embeddings in a way that is not known"):
        TextModel(checkpoint(pooling="max")).embed(TEXTS)


def test_an_unknown_device(sparse):
    with pytest.raises(InputError, match="Unknown device 'tpu'"):
        TextModel(sparse, device="tpu")


def test_another_architecture_is_refused(checkpoint):
    folder = checkpoint()
    config = folder / "config.json"
    config.write_text(config.read_text(encoding="utf-8").replace('"bert"', '"t5"'), encoding="utf-8")
    with pytest.raises(InputError, match="is a model of type 't5'"):
        TextModel(folder)
