import dataclasses
import json

from mretrieve.index.manifest import EncoderIdentity
from mretrieve.index.plan import BuildPlan, is_build, read_plan, write_plan

PLAN = BuildPlan("source-1", EncoderIdentity("e5-small", "abc", 384, "query: ", "passage: "))


def test_a_plan_reads_back_equal(tmp_path):
    write_plan(tmp_path, PLAN)
    assert read_plan(tmp_path) == PLAN.to_dict()
    assert is_build(tmp_path)


def test_a_plan_of_something_else_is_not_ours(tmp_path):
    assert not is_build(tmp_path)
    for text in ('{"tasks": []}', "[1]", "not json", '{"format": "other"}'):
        (tmp_path / "plan.json").write_text(text)
        assert read_plan(tmp_path) is None


def test_each_field_changes_the_digest():
    changes = [
        {"source": "source-2"},
        {"encoder": None},
        {"encoder": dataclasses.replace(PLAN.encoder, dtype="bf16")},
        {"encoder": dataclasses.replace(PLAN.encoder, document_prefix="")},
        {"faiss": "HNSW32"},
        {"lexical": False},
        {"shard_size": 512},
    ]
    digests = {dataclasses.replace(PLAN, **change).digest() for change in changes}
    assert len(digests | {PLAN.digest()}) == len(changes) + 1
    assert (
        PLAN.digest()
        == BuildPlan(**{f.name: getattr(PLAN, f.name) for f in dataclasses.fields(PLAN)}).digest()
    )


def test_where_faiss_trains_makes_no_other_plan():
    elsewhere = dataclasses.replace(PLAN, device="cuda")
    assert elsewhere.digest() == PLAN.digest()
    assert elsewhere.shares_shards_with(PLAN.to_dict())


def test_shards_are_shared_when_only_faiss_or_lucene_differ():
    stored = json.loads(json.dumps(PLAN.to_dict()))
    assert dataclasses.replace(PLAN, faiss="HNSW32", lexical=False).shares_shards_with(stored)
    assert not dataclasses.replace(PLAN, source="source-2").shares_shards_with(stored)
    assert not dataclasses.replace(PLAN, encoder=None).shares_shards_with(stored)
    assert not dataclasses.replace(PLAN, shard_size=8).shares_shards_with(stored)
    assert not PLAN.shares_shards_with(stored | {"format_version": 0})
