from mretrieve.datasets.plain import plain


def test_plain_keeps_what_is_said_and_drops_how_it_is_written():
    assert plain("  The “Cat”, \n1 ") == plain("the cat 1") == "thecat1"
    assert plain("ﬁve") == "five"  # a ligature
    assert plain("हिन्दी") == "हिन्दी"  # its marks are no punctuation
    assert plain("٣ أسد!") == "٣أسد"
    assert plain("—?!") == ""
