import pytest

from mretrieve.mine.sentences import has_spaces, join_sentences, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("He came. She left! Why? Nobody knows", ["He came.", "She left!", "Why?", "Nobody knows"]),
        ('He said "Yes." Then (he left.) And', ['He said "Yes."', "Then (he left.)", "And"]),
        ("J. Smith met e.g. the U.S. team. It won", ["J. Smith met e.g. the U.S. team.", "It won"]),
        ("It cost 3.50 in 1999. Later more", ["It cost 3.50 in 1999.", "Later more"]),
        ("A title\n\nA line. Another", ["A title", "A line.", "Another"]),
        ("我来了。你好！“再见。”他说", ["我来了。", "你好！", "“再见。”", "他说"]),
        ("यह है। वह था। ठीक", ["यह है।", "वह था।", "ठीक"]),
        ("هل هذا صحيح؟ نعم.", ["هل هذا صحيح؟", "نعم."]),
        ("กาฬโรคระบาด ครั้งสุดท้าย", ["กาฬโรคระบาด ครั้งสุดท้าย"]),
        ("  one  ", ["one"]),
        (" \n ", []),
    ],
)
def test_sentences(text, sentences):
    pieces = split_sentences(text)
    assert [sentence for sentence, _ in pieces] == sentences
    assert (
        "".join(sentence + gap for sentence, gap in pieces) == text.strip() + pieces[-1][1]
        if pieces
        else True
    )


def test_lines_stay_lines_and_spaces_are_those_of_the_language():
    pieces = split_sentences("One. Two.\n\nThree")
    assert join_sentences(["Eins.", "Zwei.", "Drei"], pieces, spaces=True) == "Eins. Zwei.\n\nDrei"
    assert join_sentences(["一。", "二。", "三"], pieces, spaces=has_spaces("zh")) == "一。二。\n\n三"
    assert has_spaces("de") and has_spaces("ko") and not has_spaces("ja")
