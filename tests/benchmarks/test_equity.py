"""Pieces by language, counted by a tokenizer whose pieces are characters, and by the embedded model's."""

import pytest
from equity import measure, print_report

from mretrieve.encode.tokenize import tokenizer_for


class Characters:
    def pieces(self, texts):
        return [list(text) for text in texts]


def test_ratios_by_hand():
    text = {"en": ["abcd", "ab"], "xx": ["abcdefgh", "a"]}
    found = measure(Characters(), text, max_length=9)
    assert (found["en"].ratio, found["en"].median_ratio, found["en"].too_long) == (1.0, 1.0, 0.0)
    other = found["xx"]
    assert (other.ratio, other.median_ratio) == (9 / 6, (8 / 4 + 1 / 2) / 2)
    assert (other.pieces, other.characters, other.too_long) == (4.5, 1.0, 0.5)


def test_scripts_that_the_vocabulary_hardly_knows_need_more_pieces(e5_folder, capsys):
    text = {
        "en": ["Good morning, dear friends."],
        "bo": ["བཀྲ་ཤིས་བདེ་ལེགས།"],
        "de": ["Guten Morgen, liebe Freunde."],
    }
    found = measure(tokenizer_for(e5_folder, ["x"]), text, max_length=512)
    assert found["bo"].characters < 2 < found["de"].characters
    assert found["de"].ratio == pytest.approx(found["de"].pieces / found["en"].pieces)
    print_report("e5-small", found)
    assert "2 languages and varieties" in capsys.readouterr().out
