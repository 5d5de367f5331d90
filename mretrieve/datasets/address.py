"""Addresses of collections, such as `miracl/sw/dev` or `hf:mteb/scifact`.

An address names a collection, and with it topics and judgements of one of its splits:

    BENCHMARK/LANGUAGE[/SPLIT]      miracl, mrtydi and xquad; languages by ISO 639-1
    xquad-r[/SPLIT]                 one pool of many languages
    beir:FOLDER                     a folder in BEIR's layout
    hf:REPO[@REVISION][:CONFIG]     a retrieval set on the hub, of Parquet or JSON lines
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches

from mretrieve.datasets.catalogue import Benchmark, addresses, benchmarks
from mretrieve.errors import InputError
from mretrieve.languages import normalize_language

FORMS = "BENCHMARK/LANGUAGE[/SPLIT] (see `mretrieve datasets`), beir:FOLDER, or hf:REPO[:CONFIG]"

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True, slots=True)
class Address:
    """What an address says.

    Attributes:
        kind: key of a benchmark, `beir` or `hf`.
        lang: the language of a benchmark; empty for the others, and for all languages.
        split: topics and judgements; empty where none is named.
        place: folder of `beir`, repository of `hf`.
        config: of `hf`.
    """

    kind: str
    lang: str = ""
    split: str = ""
    place: str = ""
    config: str = ""

    def __str__(self) -> str:
        if self.kind == "beir":
            return f"beir:{self.place}"
        if self.kind == "hf":
            return f"hf:{self.place}" + (f":{self.config}" if self.config else "")
        return "/".join(part for part in (self.kind, self.lang, self.split) if part)

    @property
    def benchmark(self) -> Benchmark | None:
        """The benchmark of the catalogue that this is a part of."""
        return benchmarks().get(self.kind)

    @property
    def collection(self) -> str:
        """The address without its split: what an index is built of."""
        return str(Address(self.kind, self.lang, "", self.place, self.config))


def is_address(text: str) -> bool:
    """Whether a text has the form of an address, rather than of a path."""
    return text.startswith(("beir:", "hf:")) or text.partition("/")[0] in benchmarks()


def parse_address(text: str, *, whole: bool = False) -> Address:
    """Read an address.

    Args:
        text: see the head of this module.
        whole: accept a benchmark without a language too, for all of its languages.

    Raises:
        InputError: it is unknown; near ones are named.
    """
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "beir":
        if not rest:
            raise InputError("beir: needs a folder, as in beir:data/scifact.")
        return Address("beir", place=rest)
    if colon and scheme == "hf":
        place, _, config = rest.partition(":")
        if not _REPOSITORY.fullmatch(place):
            raise InputError(f"'{text}' names no repository. Write hf:OWNER/NAME or hf:OWNER/NAME:CONFIG.")
        return Address("hf", place=place, config=config)
    key, *parts = text.strip("/").split("/")
    benchmark = benchmarks().get(key)
    if benchmark is None:
        raise InputError(f"There is no collection '{text}'.{_near(text)} An address is {FORMS}.")
    if benchmark.pooled:
        parts = ["", *parts]
    if not parts:
        if whole:
            return Address(key)
        raise InputError(f"'{text}' needs a language, as in {key}/{next(iter(benchmark.languages))}.")
    if len(parts) > 2:
        raise InputError(f"There is no collection '{text}'.{_near(text)} An address is {FORMS}.")
    lang = "" if benchmark.pooled else _language(benchmark, parts[0], text)
    return Address(key, lang, _split(benchmark, lang, parts[1], text) if len(parts) == 2 else "")


def _language(benchmark: Benchmark, given: str, text: str) -> str:
    if given in benchmark.languages:
        return given
    try:
        code = normalize_language(given)
    except InputError:
        code = ""
    if code in benchmark.languages:
        return code
    choices = ", ".join(benchmark.languages)
    raise InputError(f"{benchmark.title} has no language '{given}'.{_near(text)} Choose from: {choices}.")


def _split(benchmark: Benchmark, lang: str, given: str, text: str) -> str:
    splits = list(benchmark.languages[lang].splits) if lang else list(benchmark.splits)
    if given in splits:
        return given
    raise InputError(
        f"{benchmark.title} has no split '{given}' here.{_near(text)} Choose from: {', '.join(splits)}."
    )


def _near(text: str) -> str:
    near = get_close_matches(text.lower(), addresses(), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(near)}?" if near else ""
