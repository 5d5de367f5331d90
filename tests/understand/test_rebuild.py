import torch

from mretrieve.understand.rebuild import rebuild
from tests.models.nomic import tiny_model


def test_only_what_was_named_changes():
    model = tiny_model()
    old = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = model.embeddings.word_embeddings.weight[:7] * 2
    new = rebuild(model, {"embeddings.word_embeddings.weight": rows}, vocab_size=7)
    assert new.sizes.vocab_size == 7
    assert not new.training
    for name, tensor in new.state_dict().items():
        expected = old[name][:7] * 2 if name.startswith("embeddings.word") else old[name]
        assert torch.equal(tensor, expected), name
    assert all(torch.equal(tensor, old[name]) for name, tensor in model.state_dict().items())
