"""The report of mining as a page to read."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from mretrieve.mine.candidates import Reason
from mretrieve.mine.report import MiningReport

_COLUMNS = ("queries", "pairs", "positives found", "candidates", "left", "triples", "negatives")


def to_markdown(report: MiningReport) -> str:
    """Write the report as Markdown: what was done, tables by language, samples."""
    return "\n".join([*_settings(report.settings), *_tables(report), *_samples(report)]) + "\n"


def _settings(settings: Mapping[str, object]) -> Iterator[str]:
    yield "# Mined negatives"
    yield ""
    for name, value in settings.items():
        yield f"- {name}: {value}"


def _tables(report: MiningReport) -> Iterator[str]:
    languages = {lang or "unknown": counts for lang, counts in sorted(report.counts.items())}
    everything = {**languages, "all": report.total}
    yield from ("", "## By language of the query", "")
    yield from _table(everything, _COLUMNS)
    reasons = [reason for reason in get_args(Reason) if report.total[reason]]
    if reasons:
        yield from ("", "## Dropped", "")
        yield from _table(everything, reasons)
    yield ""
    total = report.total
    for name in ("pairs without negatives", "triples with fewer negatives"):
        yield f"- {name}: {total[name]:,} of {total['pairs']:,}"
    own = total["negatives in the query's language"]
    yield f"- negatives in the query's language: {own:,} of {total['negatives']:,}"


def _table(rows: Mapping[str, Counter[str]], columns: Sequence[str]) -> Iterator[str]:
    yield f"| language | {' | '.join(columns)} |"
    yield "|---|" + "---:|" * len(columns)
    for lang, counts in rows.items():
        yield f"| {lang} | " + " | ".join(f"{counts[name]:,}" for name in columns) + " |"


def _samples(report: MiningReport) -> Iterator[str]:
    yield from ("", "## Samples to read")
    for kind in sorted(report.samples):
        yield from ("", f"### {kind[0].upper()}{kind[1:]}")
        for sample in report.samples[kind]:
            yield ""
            yield f"**{_line(sample['query'])}** ({sample['query_id']}, {sample['query_lang'] or '?'})"
            yield ""
            yield f"- positive {_document(sample['positive'])}"
            for candidate in sample["candidates"]:
                yield f"- {candidate['source'] or 'candidate'} {_document(candidate)}"


def _document(shown: Mapping[str, Any]) -> str:
    score = "" if shown["score"] is None else f", {shown['score']:.3f}"
    rank = f", rank {shown['rank']}" if shown["rank"] else ""
    return f"({shown['doc_id']}, {shown['lang'] or '?'}{rank}{score}): {_line(shown['text'])}"


def _line(text: str) -> str:
    """A text on one line that Markdown leaves as it is."""
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
