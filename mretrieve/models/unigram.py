"""Write a SentencePiece Unigram vocabulary: as `tokenizer.json`, and in a form that opens at once.

Kudo, 2018, Subword Regularization (arXiv:1804.10959); the layout is the one XLM-R checkpoints have.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

METASPACE = "\u2581"
_SPACE = {"type": "Metaspace", "replacement": METASPACE, "prepend_scheme": "always", "split": True}
UNIGRAM_TRIE, UNIGRAM_TABLE, UNIGRAM_REST = "unigram.marisa", "unigram.npy", "unigram.json"


def unigram_tokenizer_json(
    pieces: Sequence[tuple[str, float]], normalizer: Mapping[int, str], *, special: Mapping[str, int]
) -> dict[str, Any]:
    """The tokenizer as the `tokenizers` library stores it.

    Characters that no piece holds are cut apart before the model sees them, so that a run of three
    gives three unknown tokens, as the embedded model's own engine counts them; the library alone would
    merge them into one.

    Args:
        pieces: piece and log-probability, in order of id.
        normalizer: codepoint -> replacement (possibly empty).
        special: ids under the names `bos`, `eos`, `pad` and `unk`.

    Returns:
        A dictionary ready for `json.dump`.
    """
    bos, eos = pieces[special["bos"]][0], pieces[special["eos"]][0]
    one_space = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    table = [{"type": "Precompiled", "precompiled_charsmap": _charsmap(normalizer)}] if normalizer else []
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(pieces, special),
        "normalizer": {"type": "Sequence", "normalizers": [*table, one_space]},
        "pre_tokenizer": unigram_pre_tokenizer(pieces),
        "post_processor": _template((bos, special["bos"]), (eos, special["eos"])),
        "decoder": dict(_SPACE),
        "model": {
            "type": "Unigram",
            "unk_id": special["unk"],
            "vocab": [[piece, score] for piece, score in pieces],
            "byte_fallback": False,
        },
    }


def unigram_pre_tokenizer(pieces: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """What cuts a text before the model sees it: at spaces, and around characters that no piece holds."""
    known = set().union(*(piece for piece, _ in pieces))
    split = {"type": "Split", "pattern": {"Regex": _outside(known)}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [dict(_SPACE), split]}


def _added_tokens(pieces: Sequence[tuple[str, float]], special: Mapping[str, int]) -> list[dict[str, Any]]:
    """The special tokens, and the mask, which is the last piece."""
    mask = len(pieces) - 1
    return [
        {
            "id": number,
            "content": pieces[number][0],
            "single_word": False,
            "lstrip": number == mask,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for number in sorted([*(special[name] for name in ("bos", "pad", "eos", "unk")), mask])
    ]


def _template(bos: tuple[str, int], eos: tuple[str, int]) -> dict[str, Any]:
    """`<s> A </s>`, and for pairs `<s> A </s> </s> B </s>`, as RoBERTa has them."""
    first, last = _special(bos[0]), _special(eos[0])
    return {
        "type": "TemplateProcessing",
        "single": [first, _sequence("A"), last],
        "pair": [first, _sequence("A"), last, last, _sequence("B"), last],
        "special_tokens": {
            token: {"id": token, "ids": [number], "tokens": [token]} for token, number in (bos, eos)
        },
    }


def _special(token: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": token, "type_id": 0}}


def _sequence(name: str) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": 0}}


def _outside(known: set[str]) -> str:
    """A regular expression for one character that is not in `known`."""
    points = sorted(map(ord, known))
    ranges: list[list[int]] = []
    for point in points:
        if ranges and point == ranges[-1][1] + 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return "[^" + "".join(f"{_literal(a)}-{_literal(b)}" for a, b in ranges) + "]"


def _literal(point: int) -> str:
    character = chr(point)
    return re.escape(character) if point < 128 else character


def _charsmap(normalizer: Mapping[int, str]) -> str:
    """SentencePiece's compiled normaliser: trie size, trie, then the NUL-ended replacements; base64."""
    blob = bytearray()
    root: dict[int, Any] = {}
    for codepoint, replacement in sorted(normalizer.items()):
        node = root
        for byte in chr(codepoint).encode("utf-8"):
            node = node.setdefault(byte, {})
        node[0] = len(blob)
        blob += replacement.encode("utf-8") + b"\0"
    trie = b"".join(unit.to_bytes(4, "little") for unit in _double_array(root))
    return base64.b64encode(len(trie).to_bytes(4, "little") + trie + bytes(blob)).decode("ascii")


def _double_array(root: dict[int, Any]) -> list[int]:
    """A nested dictionary of bytes as a double array in the unit layout of darts-clone.

    Byte 0 ends a key and holds its value. A unit is `offset << 10 | has_leaf << 8 | label`, a value
    unit is `1 << 31 | value`; the children of the unit at i with offset o lie at `i ^ o ^ label`.
    """
    units: dict[int, int] = {0: 0}
    stack = [(0, root)]
    bases: set[int] = set()  # a reader checks labels only, so no two nodes may share one
    slot = 1
    while stack:
        at, node = stack.pop()
        label = min(node)
        while (
            slot ^ label in bases
            or not 0 < slot ^ label ^ at < 1 << 21
            or any(slot ^ label ^ other in units for other in node)
        ):
            slot += 1  # never back: holes cost little, searching them again would cost seconds
        base = slot ^ label
        bases.add(base)
        units[at] |= (base ^ at) << 10 | (0 in node) << 8
        for label, child in node.items():
            units[base ^ label] = 1 << 31 | child if label == 0 else label
            if label:
                stack.append((base ^ label, child))
    size = (max(units) // 256 + 1) * 256
    return [units.get(i, 1 << 31) for i in range(size)]


def write_unigram(
    folder: Path,
    pieces: Sequence[tuple[str, float]],
    normalizer: Mapping[int, str],
    *,
    special: Mapping[str, int],
) -> None:
    """Write the same tokenizer in the form that opens in a millisecond.

    `unigram.marisa` is a trie of the pieces that is memory-mapped, `unigram.npy` holds (id, score) by
    the trie's key number, `unigram.json` the normaliser and the special ids.
    """
    import marisa_trie

    reserved = {*special.values(), len(pieces) - 1}
    trie = marisa_trie.Trie([piece for i, (piece, _) in enumerate(pieces) if i not in reserved])
    table = np.zeros(len(trie), dtype=[("id", "<i4"), ("score", "<f4")])
    for number, (piece, score) in enumerate(pieces):
        if number not in reserved:
            table[trie[piece]] = (number, score)
    trie.save(str(folder / UNIGRAM_TRIE))
    np.save(folder / UNIGRAM_TABLE, table)
    rest = {
        "special": dict(special),
        # SentencePiece scores an unknown character 10 below the least likely piece.
        "unknown_score": float(min(score for _, score in pieces)) - 10.0,
        "normalizer": {str(codepoint): text for codepoint, text in normalizer.items()},
    }
    (folder / UNIGRAM_REST).write_text(json.dumps(rest, ensure_ascii=False), encoding="utf-8")
