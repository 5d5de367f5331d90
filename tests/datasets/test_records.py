import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mretrieve.datasets.files import BadRecord
from mretrieve.datasets.records import read_jsonl, read_parquet, read_table
from mretrieve.errors import InputError

FIELDS = (("_id", "id"), ("text",))


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def tsv(path):
    return list(read_table(path, delimiter="\t", default=("id", "text"), fields=FIELDS))


def table(path):
    return list(read_table(path, delimiter=",", default=(), fields=FIELDS))


def test_json_lines_keep_their_numbers(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"id": 1, "text": "\\u00fc"}\n\n  {"id": "x"} \r\n')
    assert list(read_jsonl(path)) == [(1, {"id": 1, "text": "ü"}), (3, {"id": "x"})]


@pytest.mark.parametrize(
    ("line", "reason", "message"),
    [
        ('{"id": 1', "broken JSON", "Expecting ',' delimiter at column 9"),
        ('{"id": 1} {"id": 2}', "broken JSON", "Extra data at column 11"),
        ("hello", "broken JSON", "Expecting value at column 1"),
        ("[" * 100_000, "broken JSON", "recursion"),
        ('["a"]', "not an object", "this line is a list"),
        ('"a"', "not an object", "this line is a string"),
        ("17", "not an object", "this line is a number"),
        ("true", "not an object", "this line is true or false"),
        ("null", "not an object", "this line is null"),
        ('{"text": "half \\ud83d"}', "not UTF-8", "the field 'text' holds \\ud83d, half of a character"),
    ],
)
def test_a_line_that_is_no_json_object_is_told_and_passed(tmp_path, line, reason, message):
    path = write(tmp_path / "a.jsonl", f'{{"id": 1}}\n{line}\n{{"id": 3}}\n')
    first, (number, fault), last = read_jsonl(path)
    assert (first, number, last) == ((1, {"id": 1}), 2, (3, {"id": 3}))
    assert isinstance(fault, BadRecord)
    assert fault.reason == reason
    assert message in str(fault)


def test_escaped_pairs_of_surrogates_are_one_character(tmp_path):
    assert list(read_jsonl(write(tmp_path / "a.jsonl", '{"text": "\\ud83d\\ude00"}'))) == [
        (1, {"text": "😀"})
    ]


def test_tables_without_header_hold_id_and_text(tmp_path):
    path = write(tmp_path / "a.tsv", '7\tthe "text"\n\n8\tid\n')
    assert tsv(path) == [(1, {"id": "7", "text": 'the "text"'}), (3, {"id": "8", "text": "id"})]


def test_a_header_names_the_columns(tmp_path):
    path = write(tmp_path / "a.tsv", "Text\tID\tlang\nhabari\t1\tsw\n")
    assert tsv(path) == [(2, {"text": "habari", "id": "1", "lang": "sw"})]
    packed = write(tmp_path / "b.tsv.gz", gzip.compress(b"id\ttext\n1\tone\n"))
    assert tsv(packed) == [(2, {"id": "1", "text": "one"})]


def test_a_row_of_another_width_is_told(tmp_path):
    (_, _), (number, fault) = tsv(write(tmp_path / "a.tsv", "1\tone\n2\ttitle\ttext\n"))
    assert number == 2
    assert "3 columns, but a file without a header holds id<tab>text" in str(fault)
    ((number, fault),) = tsv(write(tmp_path / "b.tsv", "id\ttext\tlang\n2\ttext\n"))
    assert (number, str(fault)) == (2, "2 columns, but the header names 3")


def test_csv_fields_may_hold_commas_quotes_and_lines(tmp_path):
    path = write(tmp_path / "a.csv", 'id,text\r\n1,"a, ""b""\nc"\r\n\r\n2,d\r\n')
    assert table(path) == [(2, {"id": "1", "text": 'a, "b"\nc'}), (5, {"id": "2", "text": "d"})]


def test_csv_needs_a_header(tmp_path):
    path = write(tmp_path / "a.csv", "1,hello\n")
    with pytest.raises(
        InputError, match=r"a\.csv:1: the first line has to name the columns \(one of _id, id and"
    ):
        table(path)


def test_an_open_quote_is_told_with_the_line_where_it_opens(tmp_path):
    path = write(tmp_path / "a.csv", 'id,text\n1,fine\n2,"never closed\n3,text\n')
    with pytest.raises(InputError, match=r"a\.csv:3: broken CSV .*check the quotes"):
        table(path)


def test_csv_passes_lines_that_are_not_utf8(tmp_path):
    path = write(tmp_path / "a.csv", b"id,text\n1,\xe9\n2,ok\n")
    (number, fault), last = table(path)
    assert (number, fault.reason) == (2, "not UTF-8")
    assert last[1] == {"id": "2", "text": "ok"}


def test_csv_fields_may_be_long(tmp_path):
    long = "x" * 300_000  # twice what the csv module allows by default
    assert table(write(tmp_path / "a.csv", f"id,text\n1,{long}\n"))[0][1]["text"] == long


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_parquet_gives_the_wanted_columns_row_by_row(tmp_path):
    path = parquet(tmp_path / "a.parquet", docid=[1, 2, 3], text=["a", "b", "ค"], embedding=[[0.5]] * 3)
    rows = list(read_parquet(path, columns=("docid", "id", "text")))
    assert rows == [
        (1, {"docid": 1, "text": "a"}),
        (2, {"docid": 2, "text": "b"}),
        (3, {"docid": 3, "text": "ค"}),
    ]


def test_parquet_without_any_wanted_column_is_told(tmp_path):
    path = parquet(tmp_path / "a.parquet", a=[1], b=[2])
    with pytest.raises(InputError, match=r"a\.parquet has none of the columns id, text, but a, b\."):
        list(read_parquet(path, columns=("id", "text")))


def test_a_file_that_is_not_parquet_or_cut_off_is_told(tmp_path):
    whole = parquet(tmp_path / "a.parquet", id=list(range(1000)))
    for content in (b"PAR1 no", whole.read_bytes()[:-20]):
        with pytest.raises(InputError, match=r"b\.parquet is not a whole Parquet file"):
            list(read_parquet(write(tmp_path / "b.parquet", content), columns=("id",)))
