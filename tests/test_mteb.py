"""mteb's own task MIRACLRetrieval, on a small corpus in the layout of mteb/MIRACLRetrieval."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mretrieve.errors import InputError
from mretrieve.evaluate.measures import evaluate
from mretrieve.index.jvm import find_all
from mretrieve.mteb import MtebEncoder, MtebRetriever
from tests.official import of_sample

mteb = pytest.importorskip("mteb", reason="mteb is not installed")
# mteb takes seconds to import, and warns in many words that are not ours.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def small():
    return of_sample("ar", n_queries=30)


@pytest.fixture(scope="module")
def repository(small, tmp_path_factory):
    """The three configurations of one language, as the hub holds them."""
    root = tmp_path_factory.mktemp("MIRACLRetrieval")
    tables = {
        "corpus": [{"_id": d.doc_id, "title": "", "text": d.text} for d in small.documents],
        "queries": [{"_id": q.query_id, "text": q.text} for q in small.queries],
        "qrels": [
            {"query-id": q, "corpus-id": d, "score": g}
            for q, judged in small.qrels.items()
            for d, g in judged.items()
        ],
    }
    lines = ["---", "configs:"]
    for part, rows in tables.items():
        (root / f"ar-{part}").mkdir()
        pq.write_table(pa.Table.from_pylist(rows), root / f"ar-{part}" / "dev-00000-of-00001.parquet")
        lines += [
            f"- config_name: ar-{part}",
            "  data_files:",
            "  - split: dev",
            f"    path: ar-{part}/dev-*",
        ]
    (root / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
    return root


@pytest.fixture
def task(repository):
    """The real task object, told to read the repository of this machine."""
    task = mteb.get_task("MIRACLRetrieval", languages=["ara"])
    task.metadata = task.metadata.model_copy(
        update={"dataset": {"path": str(repository), "revision": "local"}}
    )
    return task


def score_of(model, task):
    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)
    return result[0].scores["dev"][0]["ndcg_at_10"]


def ours(run, small):
    return evaluate(run, small.qrels, ["nDCG@10"]).mean["nDCG@10"]


def test_mteb_takes_both_for_models(model):
    from mteb.models.models_protocols import EncoderProtocol, SearchProtocol

    assert isinstance(MtebEncoder(str(model)), EncoderProtocol)
    retriever = MtebRetriever(mode="bm25")
    assert isinstance(retriever, SearchProtocol) and not isinstance(retriever, EncoderProtocol)


def test_an_encoder_scores_as_its_vectors_do(task, small, model):
    encoder = MtebEncoder(str(model))
    found = score_of(encoder, task)
    documents = encoder.encoder.encode_documents([d.contents for d in small.documents])
    queries = encoder.encoder.encode_queries([q.text for q in small.queries])
    run = {
        q.query_id: {d.doc_id: float(s) for d, s in zip(small.documents, scores, strict=True)}
        for q, scores in zip(small.queries, queries @ documents.T, strict=True)
    }
    assert found == pytest.approx(ours(run, small), abs=1e-5)


@pytest.mark.parametrize("mode", ["bm25", "dense", "hybrid"])
def test_a_retriever_scores_as_it_ranks(task, small, model, mode, tmp_path):
    if mode != "dense":
        find_all()
    retriever = MtebRetriever(str(model), mode=mode, folder=tmp_path)
    found = score_of(retriever, task)
    from mretrieve.rank.retriever import Retriever

    index = Retriever(tmp_path / mode / "index")
    ranked = index.rank(small.queries, top_k=25, mode=mode)
    run = {
        q.query_id: dict(zip(index.doc_ids(one.ranking), one.ranking.scores.tolist(), strict=True))
        for q, one in zip(small.queries, ranked, strict=True)
    }
    assert found == pytest.approx(ours(run, small), abs=1e-5)
    assert list(index.index.manifest.languages) == ["ar"]  # from mteb's description, not by detection
    if mode == "bm25":
        assert found > 0.8


def test_prompts_follow_what_mteb_says_of_the_texts(checkpoint):
    from mteb.types import PromptType

    folder = checkpoint(prompts={"query": "the ", "document": "ing "})
    encoder = MtebEncoder(str(folder))
    batches = [{"text": ["a b"]}, {"text": ["c"]}]
    both = encoder.encode(batches, prompt_type=PromptType.document)
    assert np.array_equal(both, encoder.encoder.encode_documents(["a b", "c"]))
    for kind in (PromptType.query, None):
        assert np.array_equal(
            encoder.encode(batches, prompt_type=kind), encoder.encoder.encode_queries(["a b", "c"])
        )
    assert encoder.similarity(both, both).shape == (2, 2)
    assert encoder.similarity_pairwise(both, both).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_names_under_which_results_are_kept(model):
    assert MtebEncoder("e5-small").mteb_model_meta.name == "intfloat/multilingual-e5-small"
    assert (
        MtebRetriever("e5-small", mode="hybrid").mteb_model_meta.name
        == "mretrieve/multilingual-e5-small-hybrid"
    )
    assert MtebRetriever(mode="bm25").mteb_model_meta.name == "mretrieve/bm25"
    meta = MtebEncoder(str(model)).mteb_model_meta
    assert meta.name == f"mretrieve/{model.name}"
    assert (meta.embed_dim, len(meta.revision)) == (32, 16)


def test_what_it_cannot_do_is_told():
    retriever = MtebRetriever(mode="bm25")
    with pytest.raises(InputError, match="Nothing is indexed yet"):
        retriever.search([], top_k=10)
    with pytest.raises(InputError, match="not one of reranking"):
        retriever.search([], top_k=10, top_ranked={"q": ["d"]})
