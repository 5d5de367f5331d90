from mretrieve.encode.pieces import cut_into_pieces


def test_pieces_of_words():
    assert cut_into_pieces(["habari ya asubuhi"])[0][0].startswith("▁")
    assert cut_into_pieces([]) == []


def test_many_texts_are_cut_as_few_are():
    text = "mtoto anasoma kitabu shuleni. " * 50
    assert cut_into_pieces([text] * 30) == cut_into_pieces([text]) * 30
