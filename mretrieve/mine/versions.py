"""Make versions of documents and questions in other languages, each text translated once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mretrieve.languages import complete_languages
from mretrieve.mine.translated import versioned
from mretrieve.mine.translation_cache import Direction, TranslationCache
from mretrieve.mine.translation_report import Outcome, TranslationReport
from mretrieve.mine.translator import Translator
from mretrieve.types import Document, Query

OnProgress = Callable[[str, int, int | None], None]
Text = Document | Query

RECORDS_AT_ONCE = 512
"""Records that are looked up together."""

Translations = Mapping[str, str | None]
"""Text -> translation, None where there is none."""


class VersionMaker:
    """Translates records and counts what became of them.

    Args:
        translator: translates.
        cache: of translations.
        targets: languages to translate into.
        sources: languages to translate from, as `normalize_language` gives them; empty: all.

    Attributes:
        translator: translates.
        report: counts so far.
        made: id -> language -> id of the version, of the last `run`.
    """

    def __init__(
        self, translator: Translator, cache: TranslationCache, targets: Sequence[str], sources: Iterable[str]
    ) -> None:
        self.report = TranslationReport(translator.name)
        self.made: dict[str, dict[str, str]] = {}
        self.translator, self._cache = translator, cache
        self._targets, self._sources = list(targets), frozenset(sources)

    def run(self, texts: Iterable[Text], stage: str, on_progress: OnProgress) -> Iterator[dict[str, Any]]:
        """Give the records of all versions of all texts.

        Args:
            texts: documents, or queries.
            stage: their name for `on_progress`.
            on_progress: called with the stage and how many texts are done.
        """
        self.made = {}
        done = 0
        for chunk in _chunks(texts):
            for target in self._targets:
                yield from self._into(chunk, target)
            done += len(chunk)
            on_progress(stage, done, None)

    def _into(self, chunk: Sequence[Text], target: str) -> Iterator[dict[str, Any]]:
        by_source: dict[str, list[Text]] = {}
        for text in chunk:
            by_source.setdefault(text.lang, []).append(text)
        found = {
            source: self._translations(_strings(some), source, target)
            for source, some in by_source.items()
            if self._is_asked(source) and target in self.translator.languages.get(source, ())
        }
        for text in chunk:
            fields = self._fields(text, target, found)
            if fields is None:
                continue
            identifier = identifier_of(text)
            self.made.setdefault(identifier, {})[target] = versioned(identifier, target)
            yield {
                "_id": versioned(identifier, target),
                **fields,
                "lang": target,
                "source_id": identifier,
                "source_lang": text.lang,
                "translated_by": self.report.engine if text.lang != target else None,
            }

    def _is_asked(self, source: str) -> bool:
        return not self._sources or source in self._sources

    def _fields(self, text: Text, target: str, found: Mapping[str, Translations]) -> dict[str, str] | None:
        """The texts of one version, None where there is none; counted in any case."""
        fields = _fields(text)
        translated: dict[str, str] | None = None
        outcome: Outcome
        if not self._is_asked(text.lang):
            outcome = "left out"
        elif text.lang == target:
            outcome, translated = "in the language already", fields
        elif text.lang not in found:
            outcome = "no such pair"
        else:
            translated = _translated(fields, found[text.lang])
            outcome = "translated" if translated else "not translated"
        self.report.add(identifier_of(text), text.text, text.lang, target, outcome)
        return translated

    def _translations(self, texts: Sequence[str], source: str, target: str) -> dict[str, str | None]:
        """Text -> translation: from the cache as far as it goes, the others made and kept."""
        version = self.translator.version(source, target)
        self.report.versions[f"{source}-{target}"] = version
        direction = Direction(f"{self.translator.name} {version}", source, target)
        found = self._cache.get(texts, direction)
        self.report.reused += len(found)
        missing = [text for text in texts if text not in found]
        for part in _parts(missing, self.translator.characters_at_once):
            made = dict(zip(part, self.translator.translate(part, source, target), strict=True))
            self._cache.put(made, direction)
            found |= made
        return found


def identifier_of(text: Text) -> str:
    """The id of a document or a query."""
    return text.doc_id if isinstance(text, Document) else text.query_id


def with_languages(chunk: Sequence[Text]) -> list[Text]:
    """The texts, with their language where none was given."""
    found = complete_languages([text.text for text in chunk], [text.lang for text in chunk])
    return [replace(text, lang=lang) for text, lang in zip(chunk, found, strict=True)]


def _chunks(texts: Iterable[Text]) -> Iterator[list[Text]]:
    chunk: list[Text] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == RECORDS_AT_ONCE:
            yield with_languages(chunk)
            chunk = []
    if chunk:
        yield with_languages(chunk)


def _parts(texts: Sequence[str], characters: int) -> Iterator[list[str]]:
    """Texts in parts of about so many characters."""
    part: list[str] = []
    size = 0
    for text in texts:
        part.append(text)
        size += len(text)
        if size >= characters:
            yield part
            part, size = [], 0
    if part:
        yield part


def _fields(text: Text) -> dict[str, str]:
    return {"title": text.title, "text": text.text} if isinstance(text, Document) else {"text": text.text}


def _strings(texts: Sequence[Text]) -> list[str]:
    """All there is to translate, each once."""
    return list(dict.fromkeys(value for text in texts for value in _fields(text).values() if value.strip()))


def _translated(fields: Mapping[str, str], found: Translations) -> dict[str, str] | None:
    """The fields in the other language; None where one of them could not be translated."""
    translated: dict[str, str] = {}
    for name, value in fields.items():
        translation = found[value] if value.strip() else value
        if translation is None:
            return None
        translated[name] = translation
    return translated
