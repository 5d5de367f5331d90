"""What a text says, without how it is written: the form in which texts are compared for equality."""

import unicodedata
from functools import lru_cache


class _Letters(dict[int, str]):
    """Drops what is neither letter, mark nor number; each character is looked up once."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = character if unicodedata.category(character)[0] in "LMN" else ""
        return self[code]


_letters = _Letters()


@lru_cache(maxsize=20_000)
def plain(text: str) -> str:
    """A text without case, spaces, punctuation and differences of encoding; equal ones say the same."""
    return unicodedata.normalize("NFKC", text).casefold().translate(_letters)
