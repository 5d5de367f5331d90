"""One interface to everything that translates, and the choice by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mretrieve.errors import InputError
from mretrieve.languages import normalize_language

ENGINES = (
    "`apertium`, `parallel:FILE` (JSON lines with one key per language), or the hub id or folder of a "
    "translation model such as facebook/nllb-200-distilled-600M"
)

Languages = Mapping[str, frozenset[str]]
"""Source language -> languages into which it can be translated, as `normalize_language` names them."""


class Translator(Protocol):
    """Translates texts from one language into another."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def languages(self) -> Languages:
        """What it translates into what."""

    @property
    def characters_at_once(self) -> int:
        """How much text is worth a call; it is also what a killed run has to translate again."""

    def version(self, source: str, target: str) -> str:
        """Names all that decides its translations: under the same version they are the same."""

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """Translate texts that are not blank; None for what it cannot translate."""


def open_translator(engine: str, *, device: str = "auto", beams: int = 1) -> Translator:
    """Find a translator by name.

    Args:
        engine: `apertium`, `parallel:FILE`, or a hub id or folder of a transformers model.
        device: of a model: `auto`, `cpu` or `cuda`.
        beams: of a model: hypotheses that are followed; 1 is the fastest, 4 or 5 somewhat better.

    Raises:
        InputError: there is no such engine, or it is not installed.
    """
    kind, colon, rest = engine.partition(":")
    if engine == "apertium":
        from mretrieve.mine.apertium import Apertium

        return Apertium()
    if kind == "parallel" and colon:
        from mretrieve.mine.parallel import ParallelFile

        return ParallelFile(Path(rest))
    if not Path(engine).is_dir() and (engine.count("/") != 1 or colon):
        raise InputError(f"There is no translator '{engine}'. Give {ENGINES}.")
    from mretrieve.mine.seq2seq import Seq2SeqTranslator

    return Seq2SeqTranslator(engine, device=device, beams=beams)


def check_target(translator: Translator, source: str, target: str) -> None:
    """Make sure that a translator knows a pair of languages.

    Raises:
        InputError: it does not; what comes near is named.
    """
    if target in translator.languages.get(source, frozenset()):
        return
    from_source = sorted(translator.languages.get(source, ()))
    to_target = sorted(one for one, targets in translator.languages.items() if target in targets)
    near = [f"from {source}: {', '.join(from_source[:12])}"] if from_source else []
    near += [f"to {target} from: {', '.join(to_target[:12])}"] if to_target else []
    known = "; ".join(near) or f"it translates from: {', '.join(sorted(translator.languages)[:20]) or '-'}"
    raise InputError(f"{translator.name} does not translate '{source}' into '{target}'; {known}.")


def normalize_targets(codes: Sequence[str]) -> list[str]:
    """Languages to translate into, by the codes under which we know them, each once.

    Raises:
        InputError: there is none, or one is unknown.
    """
    targets = list(dict.fromkeys(normalize_language(code) for code in codes))
    if not targets or "" in targets:
        raise InputError("Name the languages to translate into, such as --to de,fr.")
    return targets


def by_source(pairs: Sequence[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """(source, target) pairs as `Languages`."""
    languages: dict[str, set[str]] = {}
    for source, target in pairs:
        if source != target:
            languages.setdefault(source, set()).add(target)
    return {source: frozenset(targets) for source, targets in sorted(languages.items())}
