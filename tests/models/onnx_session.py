"""Sessions of graphs that are being tested, and batches to feed them."""

import numpy as np
import onnx
import onnxruntime as ort
import torch

from mretrieve.models.onnx_files import embed_weights
from mretrieve.models.onnx_weights import graph_tensors

LEVELS = ort.GraphOptimizationLevel


def tensors_of(model):
    """A torch model's weights, for graphs."""
    return graph_tensors(
        model.sizes, {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    )


def open_graph(graph, tensors, *, level=LEVELS.ORT_ENABLE_ALL):
    """A session, after the checks that every graph of ours has to pass."""
    made = graph.model()
    embed_weights(made, tensors)
    onnx.checker.check_model(made, full_check=True)
    assert {node.domain for node in made.graph.node} == {""}, "standard operators only"
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = level
    return ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])


def batch(lengths, width=None, *, vocab=48, seed=0):
    """Random token ids of texts of these lengths, padded with random ids, and their mask."""
    width = width or max(lengths)
    ids = np.random.default_rng(seed).integers(0, vocab, (len(lengths), width))
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64)
    return {"input_ids": ids, "attention_mask": mask}


def by_torch(model, feed):
    """(batch, length, hidden) hidden states, 0 on padding."""
    with torch.no_grad():
        output = model(torch.from_numpy(feed["input_ids"]), torch.from_numpy(feed["attention_mask"]))
    return output.last_hidden_state.numpy() * feed["attention_mask"][:, :, None]


def embeddings(hidden, mask):
    """Mean over the real tokens, unit length."""
    total = (hidden * mask[:, :, None]).sum(axis=1)
    return total / np.linalg.norm(total, axis=1, keepdims=True)
