import pytest
from mretrieve.ui.examples import examples_for, sample_examples

from mretrieve import Retriever


def test_a_dozen_languages():
    examples = sample_examples()
    assert len({one.lang for one in examples}) == 12
    assert len({one.text for one in examples}) == len(examples)
    assert any(one.lang != one.answer_lang for one in examples)


@pytest.mark.slow
def test_each_finds_its_passage_first(demo):
    retriever = Retriever(demo)
    assert examples_for(retriever) == sample_examples()
    for example in sample_examples():
        (best,) = retriever.search(example.text, top_k=1)
        assert (best.doc_id, best.lang) == (example.doc_id, example.answer_lang)


def test_other_indexes_have_none(small_index):
    assert examples_for(Retriever(small_index)) == ()
