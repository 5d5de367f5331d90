"""llama.cpp's side of a comparison: a program of its own, for a Python that has llama-cpp-python and gguf.

`llama_peer.py write FOLDER OUT.gguf TYPE` writes an official NomicMoE checkpoint as GGUF, and
`llama_peer.py serve MODEL.gguf THREADS` answers lines of JSON, lists of token ids, with seconds and vectors.
"""

import base64
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mretrieve.models.config_file import read_nomic_config
from mretrieve.models.weights import read_weights

MOST_TOKENS = 512
"""Tokens of a batch, and of a text: all tokens of one batch look at each other before a mask blinds them."""

_NAMES = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "emb_ln": "token_embd_norm",
    "encoder.layers": "blk",
    "attn.Wqkv": "attn_qkv",
    "attn.out_proj": "attn_output",
    "norm1": "attn_output_norm",
    "norm2": "layer_output_norm",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
    "mlp.router.layer": "ffn_gate_inp",
    "mlp.experts.mlp.w1": "ffn_up_exps.weight",
    "mlp.experts.mlp.w2": "ffn_down_exps.weight",
}


def write(folder: Path, file: Path, kind: str) -> None:
    """Write a GGUF file: matrices in `kind` (`f16` or `bf16`), all else in float32."""
    gguf: Any = import_module("gguf")
    config = read_nomic_config(folder)
    writer = gguf.GGUFWriter(file, "nomic-bert-moe")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_rope_freq_base(config.rotary_base)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_expert_count(config.num_experts)
    writer.add_expert_used_count(config.moe_top_k)
    writer.add_moe_every_n_layers(2)
    writer.add_tokenizer_model("no_vocab")  # it is given token ids
    writer.add_vocab_size(config.vocab_size)
    writer.add_token_type_count(config.type_vocab_size)
    for name, tensor in read_weights(folder).items():
        if name.endswith("experts.bias"):
            continue
        values = tensor
        if ".experts." in name:
            values = tensor.reshape(config.num_experts, -1, config.hidden_size)
            values = values.transpose(0, 2, 1) if name.endswith("w2") else values
        wide = values.ndim < 2 or "router" in name or "token_type" in name
        number_type = gguf.GGMLQuantizationType[("f32" if wide else kind).upper()]
        values = gguf.quants.quantize(np.ascontiguousarray(values), number_type)
        writer.add_tensor(_gguf_name(name), values, raw_dtype=number_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str) -> str:
    for ours, theirs in _NAMES.items():
        name = name.replace(ours, theirs)
    return name


class Peer:
    """A loaded model."""

    def __init__(self, file: Path, threads: int) -> None:
        self.api: Any = import_module("llama_cpp")
        self.api.llama_backend_init()
        self._quiet = self.api.llama_log_callback(lambda *_: None)
        self.api.llama_log_set(self._quiet, None)
        settings = self.api.llama_model_default_params()
        self.model = self.api.llama_model_load_from_file(str(file).encode(), settings)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {file}.")
        context = self.api.llama_context_default_params()
        context.n_ctx = context.n_batch = context.n_ubatch = MOST_TOKENS
        context.n_seq_max = 64
        context.n_threads = context.n_threads_batch = threads
        context.embeddings = True
        self.context = self.api.llama_init_from_model(self.model, context)
        if not self.context:
            raise RuntimeError("llama.cpp makes no context.")
        self.dim = self.api.llama_model_n_embd(self.model)
        self.batch = self.api.llama_batch_init(MOST_TOKENS, 0, 1)

    def embed(self, texts: list[list[int]]) -> NDArray[np.float32]:
        """Mean-pooled unit vectors; as many texts at a time as fit into a batch."""
        vectors: list[NDArray[np.float32]] = []
        waiting: list[list[int]] = []
        used = 0
        for text in texts:
            if waiting and used + len(text) > MOST_TOKENS:
                vectors += self._encode(waiting)
                waiting, used = [], 0
            waiting.append(text)
            used += len(text)
        vectors += self._encode(waiting)
        found = np.stack(vectors)
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)

    def _encode(self, texts: list[list[int]]) -> list[NDArray[np.float32]]:
        batch, n = self.batch, 0
        for number, text in enumerate(texts):
            for position, token in enumerate(text):
                batch.token[n], batch.pos[n], batch.n_seq_id[n] = token, position, 1
                batch.seq_id[n][0], batch.logits[n] = number, True
                n += 1
        batch.n_tokens = n
        if self.api.llama_encode(self.context, batch):
            raise RuntimeError("llama.cpp failed to encode.")
        pointers = [self.api.llama_get_embeddings_seq(self.context, number) for number in range(len(texts))]
        return [np.ctypeslib.as_array(pointer, (self.dim,)).copy() for pointer in pointers]


def serve(file: Path, threads: int) -> None:
    """Answer until the input ends."""
    peer = Peer(file, threads)
    print(json.dumps({"system": peer.api.llama_print_system_info().decode()}), flush=True)
    for line in sys.stdin:
        texts = json.loads(line)
        start = time.perf_counter()
        vectors = peer.embed(texts)
        spent = time.perf_counter() - start
        print(
            json.dumps({"seconds": spent, "vectors": base64.b64encode(vectors.tobytes()).decode()}),
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    else:
        serve(Path(sys.argv[2]), int(sys.argv[3]))
