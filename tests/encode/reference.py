"""Embeddings by transformers itself, one text at a time, in float32."""

import numpy as np
import torch
from transformers import AutoModel


def embed(folder, ids, *, pooling="mean"):
    model = AutoModel.from_pretrained(folder).eval()
    rows = []
    with torch.no_grad():
        for one in ids:
            hidden = model(torch.tensor([one.tolist()])).last_hidden_state[0].numpy()
            rows.append({"mean": hidden.mean(0), "cls": hidden[0], "lasttoken": hidden[-1]}[pooling])
    return np.stack(rows)
