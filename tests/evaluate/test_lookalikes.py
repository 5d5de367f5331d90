"""Tables of letters: every entry is a different letter, and lookalikes are mutual."""

import unicodedata

from mretrieve.evaluate.lookalikes import DIGITS, KEYBOARD, LOOKALIKES


def test_keyboards_go_both_ways():
    assert KEYBOARD["g"] and set(KEYBOARD["g"]) <= set("fhtyvbrn")
    for letter, near in KEYBOARD.items():
        assert near and letter not in near
        script = unicodedata.name(letter).split(" ")[0]
        assert {unicodedata.name(other).split(" ")[0] for other in near} == {script}


def test_lookalikes_are_mutual_and_of_another_script():
    for letter, alike in LOOKALIKES.items():
        for other in alike:
            assert other != letter
            assert letter in LOOKALIKES[other]
            assert unicodedata.name(other) != unicodedata.name(letter)
    assert "а" in LOOKALIKES["a"]  # Cyrillic and Latin


def test_digits_stand_for_letters():
    assert not any(sign.isalpha() for signs in DIGITS.values() for sign in signs)
