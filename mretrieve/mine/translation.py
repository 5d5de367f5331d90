"""Translate a collection into other languages, with its questions and judgements; resumably."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mretrieve import files
from mretrieve.cache import cache_folder
from mretrieve.datasets.qrels import read_qrels
from mretrieve.datasets.queries import read_queries
from mretrieve.datasets.source import find_beir_file, open_source, resolve_address
from mretrieve.errors import InputError
from mretrieve.languages import normalize_language
from mretrieve.mine.leakage import check_folder
from mretrieve.mine.translated import REPORT, Versions, judgements, kept, write_qrels, write_records
from mretrieve.mine.translation_cache import TranslationCache
from mretrieve.mine.translation_report import TranslationReport
from mretrieve.mine.translator import Translator, check_target, normalize_targets
from mretrieve.mine.versions import OnProgress, Text, VersionMaker, identifier_of
from mretrieve.types import Document, Qrels

Only = Literal["all", "documents", "queries"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationOptions:
    """What is translated.

    Attributes:
        to: languages to translate into.
        sources: languages to translate from, others are left out; empty: all that the translator knows.
        only: `documents` or `queries`, the other ones staying as they are; or `all`.
        split: only what this file of judgements names.
        across: judge queries of each language with documents of each other one, too.
        evaluation: translate data for evaluation, which must not be trained on.
    """

    to: tuple[str, ...]
    sources: tuple[str, ...] = ()
    only: Only = "all"
    split: str | None = None
    across: bool = False
    evaluation: bool = False


def translate(
    source: str | Path,
    output: str | Path,
    translator: Translator,
    *,
    options: TranslationOptions,
    cache: Path | None = None,
    overwrite: bool = False,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> TranslationReport:
    """Translate a BEIR folder into a BEIR folder, or a file of documents into a file.

    A record `d1` becomes `d1@de`; its field `source_id` names the original. What is in a target language
    already is taken over as it is. Translations are kept in a cache, from which stopped work goes on.

    Args:
        source: BEIR folder, or a file of documents or of questions.
        output: folder or file to make.
        translator: as `open_translator` gives it.
        options: all choices.
        cache: file of translations; by default one for all work of this user.
        overwrite: replace `output`.
        on_progress: called with a stage and how much of it is done.

    Returns:
        What was translated and what could not be; it is written beside or into the output, too.

    Raises:
        InputError: the source or an option cannot be used, the translator does not know the languages, or
            the output exists or cannot be written.
    """
    output, root = Path(output), resolve_address(source)
    if not options.evaluation:
        check_folder(root, "translated for training")
    targets, sources = _check(options, translator)
    _check_output(output, root, overwrite=overwrite)
    store = TranslationCache(cache or cache_folder() / "translations.sqlite")
    try:
        maker = VersionMaker(translator, store, targets, sources)
        with files.storage_errors(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            with files.locked(output):
                if root.is_dir():
                    _translate_folder(root, output, maker, options, on_progress)
                else:
                    _translate_file(root, output, maker, options.to, on_progress)
    finally:
        store.close()
    return maker.report


def _translate_folder(
    root: Path, output: Path, maker: VersionMaker, options: TranslationOptions, on_progress: OnProgress
) -> None:
    all_qrels = _read_qrels(root, options.split)
    building = output.with_name(output.name + ".building")
    files.remove(building)
    (building / "qrels").mkdir(parents=True)
    versions: dict[str, Versions] = {}
    made: Versions = {}
    for name, (file, texts) in _texts(root, all_qrels if options.split else None).items():
        if options.only in ("all", name):
            write_records(building / file, maker.run(texts, name, on_progress))
            versions[name] = made = maker.made or made
        else:
            ids: list[str] = []
            write_records(building / file, _as_they_are(texts, ids))
            versions[name] = kept(ids)
    if not made:
        files.remove(building)
        raise _nothing_made(maker, options.to)
    for split, qrels in all_qrels.items():
        rows = judgements(qrels, versions["queries"], versions["documents"], across=options.across)
        write_qrels(building / "qrels" / f"{split}.tsv", rows)
    with files.atomic_file(building / REPORT) as report:
        report.write(maker.report.to_json())
    files.remove(output)
    building.rename(output)
    files.sync_folder(output.parent)


def _texts(root: Path, judged: Mapping[str, Qrels] | None) -> dict[str, tuple[str, Iterable[Text]]]:
    """Documents and queries, each with the name of their file; only those of `judged` if it is given."""
    documents: Iterable[Text] = open_source(root).documents()
    queries: Iterable[Text] = read_queries(root) if find_beir_file(root, "queries") else ()
    if judged is not None:
        wanted = {name for qrels in judged.values() for name in qrels}
        named = {name for qrels in judged.values() for one in qrels.values() for name in one}
        documents = (document for document in documents if identifier_of(document) in named)
        queries = [query for query in queries if identifier_of(query) in wanted]
    return {"documents": ("corpus.jsonl.gz", documents), "queries": ("queries.jsonl.gz", queries)}


def _as_they_are(texts: Iterable[Text], ids: list[str]) -> Iterator[dict[str, str]]:
    """The records of texts that are not translated; their ids are added to `ids`."""
    for text in texts:
        ids.append(identifier_of(text))
        record = {"_id": ids[-1], "text": text.text, "lang": text.lang}
        yield record | ({"title": text.title} if isinstance(text, Document) else {})


def _translate_file(
    root: Path, output: Path, maker: VersionMaker, to: Sequence[str], on_progress: OnProgress
) -> None:
    def records() -> Iterator[dict[str, Any]]:
        yield from maker.run(open_source(root).documents(), "documents", on_progress)
        if not maker.made:
            raise _nothing_made(maker, to)  # before the file gets its name

    write_records(output, records())
    with files.atomic_file(report_file(output)) as report:
        report.write(maker.report.to_json())


def report_file(output: Path) -> Path:
    """Where the report about a translated file goes: `docs.translation.json` for `docs.jsonl.gz`."""
    return output.with_name(f"{output.name.split('.jsonl')[0]}.{REPORT}")


def _read_qrels(root: Path, split: str | None) -> dict[str, Qrels]:
    """The judgements of each split, or of one."""
    paths = {path.name.split(".tsv")[0]: path for path in sorted((root / "qrels").glob("*.tsv*"))}
    if split is not None and split not in paths:
        there = f"There is: {', '.join(paths)}." if paths else "It holds no qrels/*.tsv at all."
        raise InputError(f"{root} has no split '{split}' in qrels/. {there}")
    return {name: read_qrels(path) for name, path in paths.items() if split in (None, name)}


def _nothing_made(maker: VersionMaker, to: Sequence[str]) -> InputError:
    """Say why there is not a single translation."""
    found = sorted({pair.rpartition("-")[0] for pair in maker.report.counts})
    if not maker.report.total("not translated"):
        for source in found:
            for target in normalize_targets(to):
                try:
                    check_target(maker.translator, source, target)
                except InputError as error:
                    return error
    return InputError(
        f"{maker.translator.name} translated nothing of what there is in {', '.join(found) or 'the source'}."
    )


def _check(options: TranslationOptions, translator: Translator) -> tuple[list[str], list[str]]:
    """Targets and sources by our codes, after finding out early what cannot work."""
    if options.only not in get_args(Only):
        raise InputError(f"Unknown part '{options.only}'. Choose from: {', '.join(get_args(Only))}.")
    targets = normalize_targets(options.to)
    sources = [normalize_language(code) for code in options.sources]
    reached = set().union(*translator.languages.values())
    for target in targets:
        for source in sources:
            if source != target:
                check_target(translator, source, target)
        if target not in reached:
            near = ", ".join(sorted(reached)[:20])
            raise InputError(f"{translator.name} does not translate into '{target}', but into: {near}.")
    return targets, sources


def _check_output(output: Path, root: Path, *, overwrite: bool) -> None:
    if root.is_file() and not output.name.endswith((".jsonl", ".jsonl.gz")):
        raise InputError(
            f"{root} is a file, so {output} will be one: give a name that ends in .jsonl or .jsonl.gz."
        )
    if root.is_dir() and output.name.endswith((".jsonl", ".jsonl.gz")):
        raise InputError(f"{root} is a folder, so {output} will be one: give a name without .jsonl.")
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists. Choose another name, or replace it with --overwrite.")
    if output.is_dir() and any(output.iterdir()) and not (output / REPORT).is_file():
        raise InputError(f"{output} was not made by a translation (it has no {REPORT}): remove it yourself.")
