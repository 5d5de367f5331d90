"""Letters that lie near each other on a keyboard, and letters and signs that look alike."""

from collections.abc import Mapping

_ROWS = (
    ("qwertyuiop", "asdfghjkl", "zxcvbnm"),  # Latin
    ("йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю"),  # Russian
    ("ςερτυθιοπ", "ασδφγηξκλ", "ζχψωβνμ"),  # Greek
    ("ضصثقفغعهخحجد", "شسيبلاتنمكط", "ئءؤرلاىةوزظ"),  # Arabic
    ("ㅂㅈㄷㄱㅅㅛㅕㅑㅐㅔ", "ㅁㄴㅇㄹㅎㅗㅓㅏㅣ", "ㅋㅌㅊㅍㅠㅜㅡ"),  # Korean
)


def _neighbours() -> dict[str, str]:
    near: dict[str, str] = {}
    for rows in _ROWS:
        for number, row in enumerate(rows):
            for place, letter in enumerate(row):
                beside = row[max(place - 1, 0) : place] + row[place + 1 : place + 2]
                for other in (number - 1, number + 1):
                    if 0 <= other < len(rows):
                        beside += rows[other][max(place - 1, 0) : place + 1]
                near[letter] = near.get(letter, "") + beside.replace(letter, "")
    return near


KEYBOARD: Mapping[str, str] = _neighbours()
"""Lower-case letter -> those around it."""

_PAIRS = (
    ("ABCEHIJKMNOPSTXYZ", "АВСЕНІЈКМΝОРЅТХУΖ"),
    ("aceijopsxy", "асеіјорѕху"),
    ("vunog", "νսոօց"),
)


def _lookalikes() -> dict[str, str]:
    alike: dict[str, str] = {}
    for one, other in _PAIRS:
        for letter, twin in zip(one, other, strict=True):
            if letter != twin:
                alike[letter] = alike.get(letter, "") + twin
                alike[twin] = alike.get(twin, "") + letter
    return alike


LOOKALIKES: Mapping[str, str] = _lookalikes()
"""Letter -> letters of other scripts that look like it."""

DIGITS: Mapping[str, str] = {
    **{"a": "4@", "b": "8", "e": "3", "g": "9", "i": "1!", "l": "1", "o": "0", "s": "5$", "t": "7", "z": "2"},
    **{"а": "4@", "б": "6", "в": "8", "е": "3", "з": "3", "о": "0", "ч": "4"},
    **{"α": "4", "ε": "3", "ο": "0", "β": "8"},
}
"""Lower-case letter -> digits and signs that stand for it."""
