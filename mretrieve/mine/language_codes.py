"""How translation models are told the languages: a code as a token, before the text or at its output."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mretrieve.errors import InputError
from mretrieve.languages import normalize_language
from mretrieve.mine.translator import Languages, by_source

_FLORES = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")  # NLLB: deu_Latn
_LOCALE = re.compile(r"[a-z]{2}_[A-Z]{2}")  # mBART-50: de_DE
_MARIAN = re.compile(r">>(\w+)<<")  # OPUS-MT with several targets: >>deu<<
_MADLAD = re.compile(r"<2([a-z]{2,3})>")  # MADLAD-400: <2de>
_PAIR = re.compile(r"opus-mt-(?:tc-\w+-)?([a-z]{2,3})-([a-z]{2,3})$")

_PREFERRED = frozenset({"arb_Arab", "azj_Latn", "pes_Arab", "twi_Latn", "zho_Hans", "kas_Deva", "knc_Latn"})
"""Varieties that codes of ours stand for where a model knows several; else one in Latin script, else any."""

_ALIASES = {"ns": "nso"}
"""Codes of models that are no codes of languages."""


@dataclass(frozen=True, slots=True)
class LanguageCodes:
    """A model's own codes of languages.

    Attributes:
        way: `forced`: the source's code is set at the tokenizer, the target's is the first token put out;
            `prefix`: the target's token stands before the text; `fixed`: there is one pair only.
        sources: our code -> the model's; of `prefix` and `fixed` models those that it may be given.
        targets: our code -> the model's.
    """

    way: Literal["forced", "prefix", "fixed"]
    sources: Mapping[str, str]
    targets: Mapping[str, str]

    @property
    def languages(self) -> Languages:
        """What the model translates into what."""
        return by_source([(source, target) for source in self.sources for target in self.targets])


def find_codes(tokenizer: Any, model: str) -> LanguageCodes:
    """Find out how a model is told its languages.

    Args:
        tokenizer: of a transformers sequence-to-sequence model.
        model: its name, which may tell its pair: `opus-mt-en-de`.

    Raises:
        InputError: it cannot be told from the tokenizer.
    """
    if own := getattr(tokenizer, "lang_code_to_token", None):  # M2M100
        codes = _by_language(own)
        return LanguageCodes("forced", codes, codes)
    vocabulary = tokenizer.get_vocab()
    for pattern in (_FLORES, _LOCALE):
        if found := [token for token in vocabulary if pattern.fullmatch(token)]:
            codes = _by_language(found)
            return LanguageCodes("forced", codes, codes)
    for pattern in (_MARIAN, _MADLAD):
        tokens = {match[1]: token for token in vocabulary if (match := pattern.fullmatch(token))}
        if tokens:
            targets = {lang: tokens[code] for lang, code in _by_language(tokens).items()}
            return LanguageCodes("prefix", _sources(tokenizer, targets), targets)
    source, target = _pair(tokenizer, model)
    return LanguageCodes("fixed", {source: source}, {target: target})


def _sources(tokenizer: Any, targets: Mapping[str, str]) -> Mapping[str, str]:
    """The one source that a Marian tokenizer names; else any of the targets may be a source too."""
    try:
        source = normalize_language(getattr(tokenizer, "source_lang", None) or "")
    except InputError:  # the name of a family: `mul`, `ROMANCE`
        source = ""
    return {source: source} if source else {lang: lang for lang in (*targets, "en")}


def _pair(tokenizer: Any, model: str) -> tuple[str, str]:
    named = _PAIR.search(model.rstrip("/"))
    codes: list[str | None] = [getattr(tokenizer, f"{side}_lang", None) for side in ("source", "target")]
    codes = list(named.groups()) if named and not all(codes) else codes
    try:
        source, target = (normalize_language(code or "") for code in codes)
    except InputError:
        source = target = ""
    if not (source and target):
        raise InputError(
            f"The translation model '{model}' does not say which languages it knows. Give an NLLB, M2M100, "
            "mBART-50, MADLAD-400 or OPUS-MT model; of the last, `source_lang` and `target_lang` stand in "
            "tokenizer_config.json."
        )
    return source, target


def _by_language(codes: Iterable[str]) -> dict[str, str]:
    """Our code -> the model's, one each."""
    found: dict[str, list[str]] = {}
    for code in codes:
        try:
            lang = normalize_language(_ALIASES.get(code, code))
        except InputError:
            continue
        if lang:
            found.setdefault(lang, []).append(code)
    return {lang: min(some, key=_preference) for lang, some in sorted(found.items())}


def _preference(code: str) -> tuple[bool, bool, str]:
    return (code not in _PREFERRED, not code.endswith("_Latn"), code)
