import json
import subprocess
import sys

import numpy as np
import pytest

from mretrieve.errors import InputError
from mretrieve.models.embedded import dequantize_q4, embedded_file, read_embedded


def test_q4_blocks_hold_low_nibbles_first():
    scale = np.array([0.5], "<f2").tobytes()
    raw = np.frombuffer(scale + bytes([0x80 + 9] * 16), np.uint8)
    values = dequantize_q4(raw)
    assert values[:16].tolist() == [0.5] * 16  # (9 - 8) * 0.5
    assert values[16:].tolist() == [0.0] * 16  # (8 - 8) * 0.5


def test_the_embedded_file_has_the_sizes_of_multilingual_e5_small():
    model = read_embedded(embedded_file())
    assert (model.hidden, model.layers, model.heads, model.ffn) == (384, 12, 12, 1536)
    assert model.special == {"bos": 0, "eos": 2, "pad": 1, "unk": 3}
    assert model.pieces[4][0] == ","
    assert model.pieces[-1][0] == "<mask>"
    assert model.normalizer[0x200B] == " "


@pytest.mark.parametrize("cut", [3, 100, 5_000_000, 60_000_000])
def test_a_cut_file_is_named(tmp_path, cut):
    path = tmp_path / "short.bin"
    path.write_bytes(embedded_file().read_bytes()[:cut])
    with pytest.raises(InputError, match="short.bin is not a whole E5S1 weight file"):
        read_embedded(path)


def test_a_wrong_magic_is_named(tmp_path):
    path = tmp_path / "other.bin"
    path.write_bytes(b"GGUF" + bytes(200))
    with pytest.raises(InputError, match="GGUF"):
        read_embedded(path)


def test_the_folder_is_one_that_sentence_transformers_loads(e5_folder):
    config = json.loads((e5_folder / "config.json").read_text())
    assert config["vocab_size"] == 250037
    code = (
        "from sentence_transformers import SentenceTransformer as S;"
        f"m = S({str(e5_folder)!r});"
        "print(m.prompts['query'], m.max_seq_length, m.encode(['x']).shape)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "query:  512 (1, 384)" in out.stdout
    assert "MISSING" not in out.stderr
