"""Hits as HTML: cards with the passage, its language, and what each leg gave."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mretrieve.language_tables import LANGUAGE_NAMES
from mretrieve.rank.explain import Found

from .examples import Example
from .marking import Span, direction, mark

_CUT = " …"
_SNIPPET = 220  # characters of a passage in a comparison, at least


@dataclass(frozen=True, slots=True)
class Card:
    """A hit ready to be shown.

    `words` are the query's in its text; `wants_sentence` asks for the closest sentence instead.
    """

    found: Found
    words: Sequence[Span] = ()
    wants_sentence: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, in which index and how; `row` where it was for passages like one of the index."""

    index: str
    text: str
    mode: str
    lang: str = ""
    languages: Sequence[str] = ()
    row: int | None = None
    seconds: float = 0.0

    @property
    def attributes(self) -> str:
        """For the page's script, which asks for more about the hits."""
        values = {
            "index": self.index,
            "query": self.text,
            "mode": self.mode,
            "languages": ",".join(self.languages),
        }
        return " ".join(f'data-{name}="{escape(value)}"' for name, value in values.items())


def language_name(code: str) -> str:
    """`Arabic` for `ar`; a code without a name stays as it is."""
    return LANGUAGE_NAMES.get(code, "Unknown language" if code in ("", "und") else code)


def results(question: Question, cards: Sequence[Card]) -> str:
    """All cards and the line above them."""
    if not cards:
        return message(
            "Nothing found",
            "No passage fits. Ask in other words, or allow more languages and the hybrid mode.",
        )
    head = _similar_head(question) if question.row is not None else ""
    body = f"{_status(question, len(cards))}<ol>{''.join(_card(card, question) for card in cards)}</ol>"
    return f'<section class="mr-results" {question.attributes}>{head}{body}</section>'


def message(title: str, text: str, *, kind: str = "empty") -> str:
    """Something to read where results would stand; `kind` is `empty` or `error`."""
    role = "alert" if kind == "error" else "status"
    return (
        f'<div class="mr-message {kind}" role="{role}"><h2>{escape(title)}</h2>'
        f'<p dir="auto">{escape(text)}</p></div>'
    )


def welcome(examples: Sequence[Example], *, documents: int, languages: int) -> str:
    """What stands there before the first question."""
    what = f"{documents:,} passages in {languages} languages" if languages > 1 else f"{documents:,} passages"
    line = f"Ask anything, in any language: {what}."
    if not examples:
        return f'<div class="mr-welcome"><p class="lead">{line}</p></div>'
    chips = "".join(map(_chip, examples))
    tries = f'<h2>Try one</h2><div class="chips">{chips}</div>'
    return f'<div class="mr-welcome"><p class="lead">{line}</p>{tries}</div>'


def _chip(example: Example) -> str:
    across = "" if example.answer_lang == example.lang else f" → {language_name(example.answer_lang)}"
    label = escape(language_name(example.lang) + across)
    return (
        f'<button type="button" class="chip" data-pick="{escape(example.text)}">'
        f'<span class="lang">{label}</span>'
        f'<span class="text" lang="{escape(example.lang)}" dir="{direction(example.text)}">'
        f"{escape(example.text)}</span></button>"
    )


def _similar_head(question: Question) -> str:
    start = escape(shorten(question.text, 160))
    return (
        '<div class="similar-head">'
        '<button type="button" class="link" data-back>← Back to the question</button>'
        f'<p>Passages like <q dir="{direction(question.text)}">{start}</q></p></div>'
    )


def _status(question: Question, n_hits: int) -> str:
    parts = [f"{n_hits} passages" if n_hits != 1 else "1 passage", f"{question.seconds * 1000:.0f} ms"]
    if question.lang and question.row is None:
        parts.append(f"read as {language_name(question.lang)}")
    return f'<p class="status" role="status">{escape(" · ".join(parts))}</p>'


def _card(card: Card, question: Question) -> str:
    found, hit = card.found, card.found.hit
    side = direction(hit.title or hit.text)
    title = f'<h3 class="title">{escape(hit.title)}</h3>' if hit.title else ""
    sentence = " data-sentence" if card.wants_sentence else ""
    return (
        f'<li><article class="hit" dir="{side}" data-row="{found.row}" data-id="{escape(hit.doc_id)}">'
        f'<header><span class="rank">{hit.rank}</span>'
        f'<span class="lang">{escape(language_name(hit.lang))}</span>'
        f'<code class="doc-id" dir="ltr">{escape(hit.doc_id)}</code></header>{title}'
        f'<p class="passage" lang="{escape(hit.lang)}" dir="{direction(hit.text)}"{sentence}>'
        f"{mark(hit.text, card.words, 'word')}</p>"
        f'<button type="button" class="link more" dir="ltr" data-more hidden>Show all</button>'
        f'<footer dir="ltr">{legs(found, question.mode)}<span class="actions">'
        f'<button type="button" class="link" data-explain aria-expanded="false">Explain</button>'
        f'<button type="button" class="link" data-similar>Similar</button></span></footer>'
        f'<div class="explanation" dir="ltr" aria-live="polite" hidden></div></article></li>'
    )


def legs(found: Found, mode: str) -> str:
    """A bar for each leg that was asked."""
    hit = found.hit
    bars = []
    if mode != "bm25":
        bars.append(_leg("dense", "Dense", found.dense_level, hit.dense_score, hit.dense_rank, "not near"))
    if mode != "dense":
        why = "other language" if found.unseen_part else "no word"
        bars.append(_leg("bm25", "BM25", found.bm25_level, hit.bm25_score, hit.bm25_rank, why))
    return f'<span class="legs">{"".join(bars)}</span>'


def _leg(kind: str, name: str, level: float | None, score: float | None, rank: int | None, why: str) -> str:
    if level is None or score is None:
        return f'<span class="leg {kind} none"><b>{name}</b><i></i><span>{why}</span></span>'
    text = f"{score:.3f}" if kind == "dense" else f"{score:.1f}"
    title = f"{name} ranks it {rank}; the bar runs from the weakest of its candidates to the best"
    return (
        f'<span class="leg {kind}" title="{title}"><b>{name}</b>'
        f'<i style="--level:{100 * level:.0f}%"></i><span>{text} · #{rank}</span></span>'
    )


def shorten(text: str, limit: int) -> str:
    """The start of a text, cut at a space where there is one near."""
    if len(text) <= limit:
        return text
    cut = text[:limit]
    space = cut.rfind(" ")
    return cut[: space if space >= limit * 2 // 3 else limit].rstrip() + _CUT


def snippet(text: str, words: Sequence[Span]) -> str:
    """The part of a passage where the query's words stand closest, as HTML."""
    start = 0
    if words and words[0][0] > _SNIPPET // 2:
        start = max(text.rfind(" ", 0, words[0][0] - _SNIPPET // 4) + 1, 0)
    cut = shorten(text[start:], _SNIPPET)
    end = start + len(cut.removesuffix(_CUT))
    inside = [(a - start, b - start) for a, b in words if start <= a and b <= end]
    return ("… " if start else "") + mark(cut, inside, "word")
