import numpy as np
import torch

from mretrieve.encode.library import LibraryModel
from tests.encode.reference import embed

IDS = [np.array([0, *range(4, 4 + n), 2], np.int32) for n in (7, 1, 20)]


def test_embeddings_are_those_of_the_modules(checkpoint):
    folder = checkpoint(pooling="cls")
    expected = embed(folder, IDS, pooling="cls")
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)  # its third module normalises
    found = LibraryModel(folder, device="cpu", dtype=torch.float32).embed(IDS)
    np.testing.assert_allclose(found, expected, atol=2e-5)
