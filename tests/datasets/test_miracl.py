"""MIRACL's official files: all published topics and judgements, and a small corpus in its layout."""

import pytest

from mretrieve.datasets import miracl
from mretrieve.datasets.catalogue import benchmarks
from mretrieve.datasets.collection import open_collection
from mretrieve.datasets.hf import read_judgements, read_topics
from mretrieve.datasets.layout import find
from mretrieve.errors import InputError
from tests.official import SHARED, assert_all_published, of_sample, splits_of, write_miracl

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")
SPLITS = splits_of("miracl")


@needs_shared
@pytest.mark.parametrize(("lang", "split"), SPLITS, ids=["/".join(one) for one in SPLITS])
def test_all_topics_and_judgements(lang, split):
    assert_all_published("miracl", miracl, lang, split)


@needs_shared
@pytest.mark.parametrize(
    ("lang", "split", "place", "query_id", "text"),
    [
        ("ar", "dev", 0, "0", "هل عدم القيام بجهد جسماني ممكن ان يسبب الأرق؟"),
        ("ar", "dev", 9, "60", "من هو مؤلف سلسلة حرب النجوم؟"),
        ("ar", "dev", -1, "15511", "من ابتكر المثلجات؟"),
        ("ar", "train", 0, "1", "ما هي المسألة الشرقية ؟"),
        ("ar", "train", -1, "15481", "من قاد الثورة العرابية في مصر؟"),
        ("th", "dev", 9, "51", "สมาชิกสภาผู้แทนราษฎร มีหน้าที่หลักคืออะไร ?"),
        ("th", "dev", -1, "4113", "กรุงเทพมหานครมีกี่เขต?"),
        ("zh", "dev", 0, "1719936#0", "二战是什么时候开始的？"),
        ("zh", "dev", 9, "67347#0", "电视剧《继承者们》的女主角是谁？"),
        ("zh", "dev", -1, "5517620#0", "中国女足有哪些成绩？"),
    ],
)
def test_single_topics(lang, split, place, query_id, text):
    topic = read_topics(find(SHARED, miracl.topics(lang, split), whole=True))[place]
    assert (topic.query_id, topic.text) == (query_id, text)


@needs_shared
def test_single_judgements_with_their_grades():
    qrels = read_judgements(find(SHARED, miracl.qrels("ar", "dev"), whole=True))
    assert list(qrels["0"].items())[:3] == [("151236#1", 1), ("151236#11", 1), ("151236#0", 0)]
    thai = read_judgements(find(SHARED, miracl.qrels("th", "dev"), whole=True))
    judged = [(query_id, *one) for query_id, grades in thai.items() for one in grades.items()]
    assert [judged[place] for place in (0, 9, -1)] == [
        ("4", "9800#4", 1),
        ("4", "928787#0", 0),
        ("4113", "235995#23", 0),
    ]


@pytest.mark.parametrize("named", [True, False], ids=["clones", "folders"])
@pytest.mark.parametrize("lang", ["ar", "th"])  # right to left; without spaces
def test_a_corpus_in_shards(tmp_path, lang, named):
    small = of_sample(lang)
    collection = open_collection(f"miracl/{lang}", root=write_miracl(tmp_path, small, shards=2, named=named))
    documents = list(collection.source().documents())
    assert len(documents) == 25
    for place in (0, 9, -1):
        wanted = small.documents[place]
        assert (documents[place].doc_id, documents[place].text) == (wanted.doc_id, wanted.text)
        assert documents[place].lang == lang
    assert documents[13].place == "docs-1.jsonl.gz:1"
    assert [(q.query_id, q.text, q.lang) for q in collection.queries()] == [
        (q.query_id, q.text, lang) for q in small.queries
    ]
    assert collection.judgements("dev") == small.qrels
    assert collection.passages == benchmarks()["miracl"].languages[lang].passages


def test_more_than_ten_shards_are_read_in_the_order_of_their_numbers(tmp_path):
    small = of_sample("en")
    collection = open_collection("miracl/en", root=write_miracl(tmp_path, small, shards=13))
    assert [d.doc_id for d in collection.source().documents()] == [d.doc_id for d in small.documents]


def test_a_missing_shard_in_the_middle_is_told(tmp_path):
    root = write_miracl(tmp_path, of_sample("en"), shards=3)
    folder = root / "miracl" / "miracl-corpus" / "miracl-corpus-v1.0-en"
    (folder / "docs-1.jsonl.gz").unlink()
    with pytest.raises(InputError, match=r"docs-1\.jsonl\.gz, but docs-2\.jsonl\.gz after it"):
        open_collection("miracl/en", root=root)


def test_title_and_text_are_joined_by_a_space(tmp_path):
    from dataclasses import replace

    small = of_sample("en")
    small.documents[0] = replace(small.documents[0], title="Rhine")
    collection = open_collection("miracl/en", root=write_miracl(tmp_path, small))
    first = next(collection.source().documents())
    assert first.contents == f"Rhine {small.documents[0].text}"
