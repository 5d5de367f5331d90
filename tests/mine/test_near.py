import pytest

from mretrieve.mine.near import overlap, plain

LONG = (
    "The river rises in the mountains and flows through three countries before it meets the sea in the north."
)
OTHER = "Nobody has counted the sheep of the island since the last lighthouse keeper went home in spring."


def test_plain_texts_are_equal_whatever_their_case_and_punctuation():
    assert plain("What's  “New”? ") == plain("whats new") == "whatsnew"
    assert plain("ﬁve") == plain("FIVE")
    assert plain("हिन्दी") == "हिन्दी"  # marks are letters too: without them other words would be equal
    assert plain("!?") == ""


def test_overlap_of_equal_and_of_different_texts():
    assert overlap(LONG, LONG.upper().replace(" ", "  ")) == 1.0
    assert overlap(LONG, OTHER) == 0.0


def test_overlap_is_the_share_of_the_shorter_text():
    assert overlap(LONG, f"{OTHER} {LONG} {OTHER}") == 1.0
    half = overlap(f"{LONG} {OTHER}", f"{LONG} {OTHER[::-1]}")
    assert 0.3 < half < 0.6


@pytest.mark.parametrize(("other", "expected"), [("A CAT", 1.0), ("a dog", 0.0), (LONG, 0.0), ("", 0.0)])
def test_short_texts_are_equal_or_not(other, expected):
    assert overlap("a cat", other) == expected


def test_unspaced_scripts():
    text = "แม่น้ำไหลลงมาจากภูเขาสูงและไหลผ่านสามประเทศก่อนลงทะเลทางทิศเหนือของแผ่นดินใหญ่"
    assert overlap(text, text + "จบ") > 0.9
