"""Fairness of XQuAD-R, on its layout with a few words for texts."""

from fairness import measure
from quality_sets import read_corpus, read_split, search


def test_a_model_that_sees_the_language_first_is_unfair(tiny_data, store):
    folder = tiny_data / "xquad-r"
    queries, qrels = read_split(folder, "test")
    documents = read_corpus(folder)
    biased = search(store(**{f"in-{lang}": 3.0 for lang in ("de", "th")}), queries, documents, top_k=20)
    found = measure(biased, qrels, queries, documents)
    assert list(found) == sorted({query.lang for query in queries}) + ["all"]
    assert found["de"].own_language.first == 1.0
    assert found["de"].own_language.exposure > 0.3 > found["de"].own_language.relevant > 0.05
    blind = search(store(**{f"in-{one.lang}": 0.0 for one in documents}), queries, documents, top_k=20)
    fair = measure(blind, qrels, queries, documents)
    assert fair["de"].language_bias < found["de"].language_bias
    assert fair["all"].queries == len(queries)
