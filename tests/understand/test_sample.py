import gzip
import json

import pytest

from mretrieve.errors import InputError
from mretrieve.understand.sample import read_sample
from tests.understand.data import ROWS

DOCUMENTS = [
    {"_id": "1", "title": "Titel", "text": "ein Text", "lang": "deu"},
    {"_id": "2", "text": "a text", "lang": "en"},
    {"_id": "3", "text": "noch einer", "lang": "de"},
]


@pytest.fixture
def documents(tmp_path):
    path = tmp_path / "corpus.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in DOCUMENTS).encode()))
    return path


def test_parallel_text_and_documents_together(parallel, documents):
    sample = read_sample([parallel, documents, documents.parent], ["de", "fra"])
    assert sample["de"] == [*(row["deu"] for row in ROWS), *["Titel\nein Text", "noch einer"] * 2]
    assert sample["fr"] == [row["fra"] for row in ROWS]


def test_limit_holds_for_each_source_and_language(parallel, documents):
    assert read_sample([parallel, documents], ["de"], limit=1) == {"de": ["ding dang", "Titel\nein Text"]}


def test_a_language_without_text(documents):
    with pytest.raises(InputError, match=r"no text in 'sw' in .*corpus\.jsonl\.gz"):
        read_sample([documents], ["de", "sw"])


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        read_sample([tmp_path / "none.jsonl"], ["de"])
