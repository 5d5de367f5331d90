import json
import math

import pytest

from mretrieve.errors import InputError
from mretrieve.mine.candidates import Candidate, Triple
from mretrieve.mine.triples import read_triples, to_line, to_record
from mretrieve.types import Document, Query
from tests.mine.conftest import candidate

POSITIVE = Candidate(
    Document("p", "Text", title="Títle", lang="es"), rank=3, source="dense", score=0.8123456789
)
TRIPLE = Triple(Query("q", "¿Qué?", "es"), POSITIVE, (candidate("n", "de", 0.5, 2), candidate("m", rank=1)))


def test_a_record_says_all_that_training_needs():
    assert to_record(TRIPLE) == {
        "query_id": "q",
        "query": "¿Qué?",
        "query_lang": "es",
        "positive_id": "p",
        "positive": "Títle Text",
        "positive_lang": "es",
        "positive_score": 0.812346,
        "positive_rank": 3,
        "negatives": [
            {"doc_id": "n", "text": "text of n", "lang": "de", "score": 0.5, "rank": 2, "source": "dense"},
            {"doc_id": "m", "text": "text of m", "lang": "en", "score": None, "rank": 1, "source": "dense"},
        ],
    }


def test_triples_come_back(tmp_path):
    path = tmp_path / "triples.jsonl"
    path.write_bytes(to_line(TRIPLE) * 2)
    first, second = read_triples(path)
    assert first.query == TRIPLE.query
    assert first.positive.document == Document("p", "Títle Text", lang="es")
    assert first.negatives[0] == TRIPLE.negatives[0]
    assert math.isnan(second.negatives[1].score)
    assert to_record(first) == to_record(TRIPLE)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", ":2: broken JSON"),
        (json.dumps({"query_id": "q"}), ":2: no triple as `mretrieve mine` writes it .*'positive_id'"),
        (json.dumps(to_record(TRIPLE) | {"negatives": [1]}), ":2: no triple"),
    ],
)
def test_broken_lines(tmp_path, line, message):
    path = tmp_path / "triples.jsonl"
    path.write_bytes(to_line(TRIPLE) + line.encode() + b"\n")
    with pytest.raises(InputError, match=message):
        list(read_triples(path))
