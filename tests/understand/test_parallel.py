import json
import lzma

import pytest

from mretrieve.errors import InputError
from mretrieve.understand.parallel import read_parallel
from tests.understand.data import ROWS, write_rows


def test_columns_go_by_code_and_metadata_are_no_languages(parallel):
    text = read_parallel(parallel)
    assert text.columns == {"en": "eng", "de": "deu", "fr": "fra", "zh": "zho-CN"}
    assert text.texts["de"] == [row["deu"] for row in ROWS]
    assert text.n_rows == 4


def test_the_main_variety_gets_the_code_and_the_others_keep_their_names(tmp_path):
    names = [
        "acm_Arab",
        "arb_Arab",
        "eng_Latn",
        "por-BR",
        "por",
        "prs",
        "pes",
        "zho-CN",
        "zho-TW",
        "spa-2",
        "spa",
    ]
    text = read_parallel(write_rows(tmp_path / "p.jsonl", [dict.fromkeys(names, "x")]))
    assert text.columns == {
        "acm_Arab": "acm_Arab",
        "ar": "arb_Arab",
        "en": "eng_Latn",
        "por-BR": "por-BR",
        "pt": "por",
        "prs": "prs",
        "fa": "pes",
        "zh": "zho-CN",
        "zho-TW": "zho-TW",
        "spa-2": "spa-2",
        "es": "spa",
    }
    assert text.codes["zho-TW"] == "zh"


@pytest.mark.parametrize("name", ["de", "deu", "ger", "DE", "de-AT"])
def test_a_language_may_be_named_by_any_code(parallel, name):
    assert read_parallel(parallel, langs=[name, "de"]).languages == ["en", "de"]


def test_a_variety_is_found_by_the_name_of_its_column(tmp_path):
    path = write_rows(tmp_path / "p.jsonl", [{"eng": "a", "por": "b", "por-BR": "c"}])
    assert read_parallel(path, langs=["por-BR"]).texts == {"en": ["a"], "por-BR": ["c"]}
    assert read_parallel(path, langs=["pt"], always=()).texts == {"pt": ["b"]}


def test_xz_reads_as_plain_does(parallel, tmp_path):
    packed = tmp_path / "rows.jsonl.xz"
    packed.write_bytes(lzma.compress(parallel.read_bytes()))
    assert read_parallel(packed).texts == read_parallel(parallel).texts


def test_limit(parallel):
    assert read_parallel(parallel, limit=3).n_rows == 3
    with pytest.raises(InputError, match="at least 1, got 0"):
        read_parallel(parallel, limit=0)


def test_english_is_needed(tmp_path):
    path = write_rows(tmp_path / "p.jsonl", [{"deu": "a", "fra": "b"}])
    with pytest.raises(InputError, match=r"p\.jsonl has no text in 'en', which is needed; its .*: de, fr"):
        read_parallel(path)


def test_an_unknown_language_names_near_ones(parallel):
    with pytest.raises(InputError, match="Unknown language 'germn'. Did you mean 'de'"):
        read_parallel(parallel, langs=["germn"])
    with pytest.raises(
        InputError, match=r"no text in 'da'. Near it: .*\bde\b.* Its languages: en, de, fr, zh"
    ):
        read_parallel(parallel, langs=["da"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"eng": "a", "deu": ', "line 2: not valid JSON"),
        ('["eng"]', "line 2: a JSON object is needed"),
        ('{"eng": "a"}', "line 2: the field 'deu' is missing or empty"),
        ('{"eng": "a", "deu": "  "}', "line 2: the field 'deu' is '  '"),
        ('{"eng": "a", "deu": 7}', "line 2: the field 'deu' is 7"),
    ],
)
def test_a_broken_row_is_named(tmp_path, line, message):
    path = tmp_path / "p.jsonl"
    path.write_text(f"{json.dumps({'eng': 'a', 'deu': 'b'})}\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"p.jsonl, {message}"):
        read_parallel(path)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"eng": "a", "deu": "b"}\n{"eng": "\xff"}\n')
    with pytest.raises(InputError, match="line 2: not UTF-8"):
        read_parallel(path)


def test_files_without_rows(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        read_parallel(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n", encoding="utf-8")
    with pytest.raises(InputError, match="holds no rows"):
        read_parallel(tmp_path / "empty.jsonl")


def test_a_cut_archive(parallel, tmp_path):
    packed = lzma.compress(parallel.read_bytes())
    (tmp_path / "cut.jsonl.xz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match="cut off or damaged"):
        read_parallel(tmp_path / "cut.jsonl.xz")
