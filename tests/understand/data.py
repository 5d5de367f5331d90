"""Parallel text and models small enough to check by hand."""

import json

from tests.models.nomic import official_folder

ROWS = [
    {"id": "r0", "doc": "d", "eng": "the cab", "deu": "ding dang", "fra": "le bac", "zho-CN": "zz qq"},
    {"id": "r1", "doc": "d", "eng": "a fine king", "deu": "ring ding", "fra": "la face", "zho-CN": "qz zq"},
    {"id": "r2", "doc": "e", "eng": "the sea", "deu": "das gering", "fra": "le cadeau", "zho-CN": "q z qz"},
    {"id": "r3", "doc": "e", "eng": "singing bees", "deu": "eng", "fra": "fade abaca", "zho-CN": "zqzq z"},
]
"""Four rows in letters that the test pieces have; German alone uses `ing` as a piece of its own often."""


def write_rows(path, rows=ROWS):
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def sparse_folder(folder, **changes):
    """A NomicMoE in the official layout; the prompt of its documents is `a `."""
    return official_folder(folder, **changes)
