"""The stage `translate`: texts of data sets in other languages, by `mretrieve.mine.translation`."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from mretrieve.datasets.records import read_jsonl
from mretrieve.files import atomic_file
from mretrieve.languages import normalize_language
from mretrieve.train.context import StageContext, StageResult
from mretrieve.train.recipe import Stage
from mretrieve.train.sets import load_set, set_names

TRANSLATIONS = "translations.jsonl.gz"
"""What the stage writes, in its folder: documents whose `source_id` is the `text_id` of the original."""


class TranslateStage(Stage):
    """Parameters of the stage.

    `engine` is `apertium`, `parallel:FILE`, or the hub id or folder of a translation model; `to` and
    `sources` are languages, all that the engine knows without `sources`. `texts` says which texts of the
    sets in `data`: `passages` are positives and negatives.
    """

    stage: Literal["translate"]
    data: Annotated[list[str], Field(min_length=1)]
    engine: str
    to: Annotated[list[str], Field(min_length=1)]
    sources: list[str] = []
    texts: Annotated[list[Literal["passages", "questions"]], Field(min_length=1)] = ["passages"]
    beams: Annotated[int, Field(gt=0)] = 1

    def inputs(self) -> list[str]:
        """The sets."""
        return self.data


def run_translate(stage: TranslateStage, context: StageContext) -> StageResult:
    """Translate each text once, and write `NAME/translations.jsonl.gz`.

    Raises:
        InputError: there is no such engine, it does not know the languages, or a set is missing.
    """
    from mretrieve.mine.translation import TranslationOptions, translate
    from mretrieve.mine.translator import open_translator

    texts: dict[str, tuple[str, str]] = {}
    for address in set_names(stage.data, stage.name).values():
        for row in load_set(address, context):
            texts |= {text_id(*one): one for one in _texts(row, stage)}
    originals = context.folder / "texts.jsonl"
    with atomic_file(originals) as file:
        for identifier, (language, text) in texts.items():
            record = {"_id": identifier, "text": text, "lang": language}
            file.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
    report = translate(
        originals,
        context.folder / TRANSLATIONS,
        open_translator(_engine(stage.engine, context), device=context.device, beams=stage.beams),
        options=TranslationOptions(to=tuple(stage.to), sources=tuple(stage.sources)),
        overwrite=True,
        on_progress=lambda label, done, total: context.on_progress(stage.name, done, len(texts)),
    )
    return StageResult(details={"texts": len(texts), "translated": report.total("translated")})


def _engine(engine: str, context: StageContext) -> str:
    kind, colon, rest = engine.partition(":")
    if kind == "parallel" and colon:
        return f"parallel:{context.input_path(rest)}"
    return engine if engine == "apertium" else context.model_name(engine)


def _texts(row: Mapping[str, Any], stage: TranslateStage) -> Iterator[tuple[str, str]]:
    """(language, text) of what is to be translated of an example."""
    if "questions" in stage.texts:
        yield row["language"], row["anchor"]
    if "passages" in stage.texts:
        yield row["positive_language"], row["positive"]
        for place, language in enumerate(row.get("negative_languages", ()), start=1):
            yield language, row[f"negative_{place}"]


def text_id(language: str, text: str) -> str:
    """The id of a text, the same wherever it stands."""
    return hashlib.blake2b(f"{language}\n{text}".encode(), digest_size=12).hexdigest()


def read_translations(file: Path) -> Iterator[tuple[str, str, str]]:
    """What the stage has written: `text_id` of the original, language, translation."""
    for _, record in read_jsonl(file):
        if isinstance(record, dict) and record["lang"] != record["source_lang"]:
            yield record["source_id"], normalize_language(record["lang"]), record["text"]
