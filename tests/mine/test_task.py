import shutil

import pytest

from mretrieve.errors import InputError
from mretrieve.mine.task import MiningOptions, read_task
from tests.conftest import write_jsonl
from tests.mine.conftest import write_folder


@pytest.fixture
def copy(tmp_path, data):
    return shutil.copytree(data.folder, tmp_path / "train" / "copy")


def test_questions_with_a_positive_are_mined_for(data, pool):
    task = read_task(data.folder, pool, MiningOptions())
    assert [query.query_id for query in task.queries] == [one["_id"] for one in data.queries]
    assert task.qrels == data.qrels


def test_the_fingerprint_is_of_all_that_counts(data, pool, copy):
    first = read_task(data.folder, pool, MiningOptions()).fingerprint
    assert read_task(copy, pool, MiningOptions()).fingerprint == first
    assert read_task(copy, pool, MiningOptions(seed=2)).fingerprint != first
    with open(copy / "qrels" / "train.tsv", "a", encoding="utf-8") as file:
        file.write(f"{data.queries[0]['_id']}\t{data.documents[70]['_id']}\t0\n")
    assert read_task(copy, pool, MiningOptions()).fingerprint != first


def test_what_is_left_out(data, pool, copy):
    name = data.queries[0]["_id"]
    task = read_task(copy, pool, MiningOptions(leave_out=(name, "x")))
    assert name not in [query.query_id for query in task.queries]
    assert task.leave_out == {name, "x"}


def test_of_mlqa_a_fifth_is_left_out(data, pool, copy):
    shutil.copy(copy / "qrels" / "train.tsv", copy / "qrels" / "train-xling.tsv")
    mlqa = copy.rename(copy.with_name("multi-mlqa"))
    task = read_task(mlqa, pool, MiningOptions())
    assert 0 < len(task.queries) < len(data.queries)
    assert not {query.query_id for query in task.queries} & task.leave_out
    page = data.qrels[data.queries[0]["_id"]]
    assert set(task.relations.groups) >= set(page)  # which passages are parallel is known too


def test_judgements_of_all_splits_tell_what_is_right(data, pool, copy):
    question, page = data.queries[0], data.documents[70]["_id"]
    write_jsonl(copy / "queries.jsonl", [*data.queries, {**question, "_id": "again"}])
    (copy / "qrels" / "dev.tsv").write_text(f"again\t{page}\t1\n{question['_id']}\t{page}\t0\n", "utf-8")
    task = read_task(copy, pool, MiningOptions())
    assert page in task.relations.known(question["_id"]).by_question


def test_evaluation_data_are_refused(data, pool, tmp_path):
    folder = shutil.copytree(data.folder, tmp_path / "eval" / "x")
    with pytest.raises(InputError, match="is for evaluation"):
        read_task(folder, pool, MiningOptions())
    with pytest.raises(InputError, match="is for evaluation"):
        read_task(folder, pool, MiningOptions(any_split=True))


def test_splits_that_are_not_for_training(data, pool, copy):
    (copy / "qrels" / "train.tsv").rename(copy / "qrels" / "dev.tsv")
    with pytest.raises(InputError, match="The split 'dev' is not for training"):
        read_task(copy, pool, MiningOptions(split="dev"))
    assert read_task(copy, pool, MiningOptions(split="dev", any_split=True)).queries
    with pytest.raises(InputError, match="has no split 'train-x' in qrels/. There is: dev."):
        read_task(copy, pool, MiningOptions(split="train-x"))


def test_broken_data(data, pool, tmp_path):
    documents, queries = data.documents[:2], data.queries[:1]
    name, page = queries[0]["_id"], documents[0]["_id"]
    unknown = write_folder(tmp_path / "a", documents, queries, {name: {page: 1}, "q?": {page: 1}})
    with pytest.raises(InputError, match="name the query 'q\\?', which is not among the queries"):
        read_task(unknown, pool, MiningOptions())
    empty = write_folder(tmp_path / "b", documents, queries, {name: {page: 0}})
    with pytest.raises(InputError, match="no judgement of 'train' is left"):
        read_task(empty, pool, MiningOptions())
    elsewhere = write_folder(tmp_path / "c", documents, queries, {name: {"d?": 1}})
    with pytest.raises(InputError, match="does not hold the document 'd\\?'"):
        read_task(elsewhere, pool, MiningOptions())
    with pytest.raises(InputError, match="There is no file or folder"):
        read_task(tmp_path / "d", pool, MiningOptions())
