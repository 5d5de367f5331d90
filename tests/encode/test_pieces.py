from mretrieve.encode import pieces
from mretrieve.encode.pieces import cut_into_pieces, piece_cutter


def test_pieces_of_words():
    assert cut_into_pieces(["habari ya asubuhi"])[0][0].startswith("▁")
    assert cut_into_pieces([]) == []


def test_many_texts_are_cut_as_few_are():
    text = "mtoto anasoma kitabu shuleni. " * 50
    assert cut_into_pieces([text] * 30) == cut_into_pieces([text]) * 30


def test_what_comes_little_by_little_counts_as_one_work(monkeypatch):
    """One language's texts are few, those of two hundred are not."""
    asked = []
    chosen = pieces.tokenizer_for

    def tokenizer_for(folder, texts, *, n_before):
        asked.append(n_before)
        return chosen(folder, texts, n_before=n_before)

    monkeypatch.setattr(pieces, "tokenizer_for", tokenizer_for)
    cut = piece_cutter()
    parts = [["mtoto anasoma", "kitabu"], ["shuleni"], ["leo"]]
    assert [cut(part) for part in parts] == [cut_into_pieces_before(part, chosen) for part in parts]
    assert asked == [0, 19, 26]


def cut_into_pieces_before(texts, chosen):
    return chosen(pieces._folder(), texts).pieces(texts)
