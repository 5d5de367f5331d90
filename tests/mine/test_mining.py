import json
import shutil

import pytest

from mretrieve.datasets.source import SAMPLE
from mretrieve.errors import InputError
from mretrieve.indexing import build_index
from mretrieve.mine import mining
from mretrieve.mine.mining import mine
from mretrieve.mine.pool import Pool
from mretrieve.mine.task import MiningOptions
from mretrieve.mine.triples import read_triples
from tests.mine.test_scorers import cross_encoder  # noqa: F401 - a fixture

# A model with random weights finds everything alike, so nearly all would be dropped at 0.95.
OPTIONS = MiningOptions(top_k=30, per_language=5, per_query=4, other_languages=0.5, max_ratio=1.0)


class Stopped(Exception):
    pass


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(mining, "QUERIES_AT_ONCE", 8)


@pytest.fixture(scope="module")
def mined(tmp_path_factory, data, index):
    """The report and the file of work that was not interrupted."""
    path = tmp_path_factory.mktemp("mined") / "triples.jsonl.gz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mining, "QUERIES_AT_ONCE", 8)
        return mine(data.folder, path, Pool(index), options=OPTIONS), path


def test_triples_obey_all_rules(mined, data, pool):
    triples = list(read_triples(mined[1]))
    languages = {one["_id"]: one["lang"] for one in data.documents}
    assert triples
    for triple in triples:
        names = [negative.document.doc_id for negative in triple.negatives]
        assert triple.positive.document.doc_id in data.qrels[triple.query.query_id]
        assert not set(names) & set(data.qrels[triple.query.query_id])
        assert 1 <= len(names) == len(set(names)) <= 4
        assert [negative.document.lang for negative in triple.negatives] == [
            languages[name] for name in names
        ]
        scores = [negative.score for negative in triple.negatives]
        assert scores == sorted(scores, reverse=True)
        rows = pool.rows([triple.positive.document.doc_id, *names])
        expected = pool.vectors.get(rows) @ pool.encode([triple.query])[0]
        assert [triple.positive.score, *scores] == pytest.approx(expected.tolist(), abs=2e-3)
    others = [n.document.lang != t.query.lang for t in triples for n in t.negatives]
    assert 20 < sum(others) < len(others)


def test_the_report_adds_up(mined, data):
    report, path = mined
    total = report.total
    assert total["queries"] == total["pairs"] == len(data.queries)
    assert (
        total["triples"] == total["pairs"] - total["pairs without negatives"] == len(list(read_triples(path)))
    )
    found = total["positives found"]
    assert total["candidates"] == total["left"] + total["scored too near the positive"] + found
    written = json.loads(path.with_name("triples.report.json").read_bytes())
    assert written == json.loads(report.to_json())
    assert written["settings"]["data"] == "little"
    assert path.with_name("triples.report.md").read_text("utf-8").startswith("# Mined negatives")


@pytest.mark.parametrize("stop_after", [0, 8, 24])
def test_stopped_work_comes_to_the_same(tmp_path, data, index, mined, stop_after):
    path = tmp_path / "triples.jsonl.gz"
    seen = []

    def stop(stage, done, total):
        if done == stop_after:
            raise Stopped

    with pytest.raises(Stopped):
        mine(data.folder, path, Pool(index), options=OPTIONS, on_progress=stop)
    assert not path.exists()
    mine(data.folder, path, Pool(index), options=OPTIONS, on_progress=lambda *one: seen.append(one[1]))
    assert seen[0] == stop_after
    for name in ("triples.jsonl.gz", "triples.report.json", "triples.report.md"):
        assert (tmp_path / name).read_bytes() == mined[1].with_name(name).read_bytes()
    assert len(list(tmp_path.iterdir())) == 3


def test_left_out_documents_are_no_negatives(tmp_path, data, pool, mined):
    name = next(read_triples(mined[1])).negatives[0].document.doc_id
    report = mine(
        data.folder,
        tmp_path / "t.jsonl",
        pool,
        options=MiningOptions(top_k=30, per_query=4, leave_out=(name,)),
    )
    assert report.total["left out"] > 0
    triples = list(read_triples(tmp_path / "t.jsonl"))
    assert name not in {negative.document.doc_id for triple in triples for negative in triple.negatives}


@pytest.mark.slow
def test_a_cross_encoder_has_the_last_word(tmp_path, data, pool, cross_encoder):  # noqa: F811
    model = str(cross_encoder(1))
    options = MiningOptions(top_k=5, max_ratio=None, cross_encoder=model, cross_max_ratio=1.0)
    mine(data.folder, tmp_path / "t.jsonl", pool, options=options)
    for triple in read_triples(tmp_path / "t.jsonl"):
        assert all(0 < negative.score <= triple.positive.score < 1 for negative in triple.negatives)


@pytest.mark.slow
def test_an_index_without_vectors(tmp_path, data, cross_encoder):  # noqa: F811
    build_index(data.folder, tmp_path / "words", dense=False)
    words = Pool(tmp_path / "words")
    with pytest.raises(InputError, match="has no dense part"):
        mine(data.folder, tmp_path / "t.jsonl", words, options=MiningOptions(mode="bm25"))
    options = MiningOptions(mode="bm25", top_k=3, cross_encoder=str(cross_encoder(1)))
    report = mine(data.folder, tmp_path / "t.jsonl", words, options=options)
    assert report.settings["model"] == "none"
    assert report.total["triples"] > 0


def test_wrong_input_tells_before_any_work(tmp_path, data, pool):
    (tmp_path / "old.jsonl").write_text("old")
    with pytest.raises(InputError, match="exists"):
        mine(data.folder, tmp_path / "old.jsonl", pool)
    for options, message in [
        (MiningOptions(per_query=0), "per_query is 0"),
        (MiningOptions(max_ratio=2.0), "max_ratio is 2"),
        (MiningOptions(cross_max_ratio=0.0), "max_ratio is 0"),
        (MiningOptions(top_k=0), "top_k is 0"),
        (MiningOptions(groups=str(tmp_path / "no")), "There is no file or folder"),
    ]:
        with pytest.raises(InputError, match=message):
            mine(data.folder, tmp_path / "t.jsonl", pool, options=options)
    with pytest.raises(InputError, match="is for evaluation"):
        mine(SAMPLE, tmp_path / "t.jsonl", pool)
    index = shutil.copytree(pool.path, tmp_path / "xquad-index")
    with pytest.raises(InputError, match="xquad-index is for evaluation"):
        mine(data.folder, tmp_path / "t.jsonl", Pool(index))


@pytest.mark.slow
def test_with_the_embedded_model_the_negatives_are_hard(tmp_path, data, e5_folder):
    """They come from the articles that the questions are about, and score between others and the positive."""
    build_index(data.folder, tmp_path / "index", lexical=False)
    pool = Pool(tmp_path / "index")
    report = mine(
        data.folder, tmp_path / "t.jsonl", pool, options=MiningOptions(mode="dense", top_k=20, per_query=3)
    )
    total, means = report.total, report.to_dict()["languages"]["en"]
    assert total["positives found first"] > 0.7 * total["pairs"]
    assert means["mean negative score"] < 0.95 * means["mean positive score"]
    everything = pool.vectors.get(pool.index.rows_of("en")).mean(axis=0)
    for triple in list(read_triples(tmp_path / "t.jsonl"))[:10]:
        if triple.query.lang == "en" and len(triple.negatives) == 3:
            assert triple.negatives[-1].score > everything @ pool.encode([triple.query])[0] - 0.05
