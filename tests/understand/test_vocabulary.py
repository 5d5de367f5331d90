from mretrieve.understand.vocabulary import pieces_to_keep, pieces_within

WORDS = ["<unk>", "▁", "▁haus", "haus", "h", "ß", "д", "▁дом", "字", "7", "▁2018", "19.", "…", "™", "<0x0A>"]
PIECES = [(piece, -float(number)) for number, piece in enumerate(WORDS)]


def kept(used, texts, pieces=PIECES):
    return {pieces[number][0] for number in pieces_to_keep(pieces, used, texts)}


def test_single_letters_go_by_script_and_signs_stay():
    neutral = {"▁", "7", "▁2018", "19.", "…", "™", "<0x0A>"}
    assert kept({0, 2}, ["Häuser"]) == neutral | {"<unk>", "▁haus", "h", "ß"}
    assert kept({0, 7}, ["дома"]) == neutral | {"<unk>", "▁дом", "д"}


def test_letters_of_pieces_used_stay_whatever_their_script():
    assert "д" in kept({0, 7}, ["ein Wort"])
    assert "д" not in kept({0}, ["ein Wort"])


def test_all_pieces_within_the_words_are_found():
    pieces = ["h", "haus", "▁haus", "▁", "us", "sh", "b"]
    found = pieces_within(pieces, {"▁haus", "▁hu"})
    assert {pieces[number] for number in found} == {"h", "haus", "▁haus", "▁", "us"}


def test_a_quoted_name_brings_no_script():
    text = "ein Wort " * 300
    assert "字" not in kept({0}, [text + "字"])
    assert "字" in kept({0}, [text + "字" * 30])


def test_the_least_likely_piece_stays():
    pieces = [*PIECES, ("▁rare", -99.0), ("▁gone", -50.0)]
    found = kept({0}, ["x"], pieces)
    assert "▁rare" in found
    assert "▁gone" not in found
