"""Two rankings of one query side by side."""

from collections.abc import Sequence
from html import escape

from .cards import Card, Question, language_name, legs, message, snippet
from .marking import direction

Side = tuple[Question, Sequence[Card]]


def comparison(left: Side, right: Side) -> str:
    """Both lists as columns, each hit with its place in the other list."""
    ranks = [{_key(card): card.found.hit.rank for card in cards} for _, cards in (left, right)]
    if not ranks[0] and not ranks[1]:
        return message("Nothing found", "Neither side found a passage. Ask in other words.")
    shared = len(ranks[0].keys() & ranks[1].keys())
    most = max(len(ranks[0]), len(ranks[1]))
    columns = _column("left", *left, ranks[1]) + _column("right", *right, ranks[0])
    status = f'<p class="status" role="status">{shared} of {most} passages are in both lists</p>'
    return f'<section class="mr-compare">{status}<div class="columns">{columns}</div></section>'


def _column(side: str, question: Question, cards: Sequence[Card], other: dict[str, int]) -> str:
    rows = "".join(_row(card, question, other) for card in cards)
    name = f"{question.index} · {mode_name(question.mode)}"
    return (
        f'<div class="mr-column {side}"><h2>{escape(name)}</h2>'
        f'<p class="status">{question.seconds * 1000:.0f} ms</p><ol>{rows}</ol></div>'
    )


def _row(card: Card, question: Question, other: dict[str, int]) -> str:
    hit, key = card.found.hit, _key(card)
    there = other.get(key)
    if there is None:
        place = '<span class="place only">only here</span>'
    else:
        change = there - hit.rank
        arrow = "=" if not change else f"▲ {change}" if change > 0 else f"▼ {-change}"
        place = f'<span class="place" dir="ltr" title="rank {there} on the other side">{arrow}</span>'
    return (
        f'<li><article class="hit small" dir="{direction(hit.text)}" data-key="{escape(key)}">'
        f'<header><span class="rank">{hit.rank}</span>'
        f'<span class="lang">{escape(language_name(hit.lang))}</span>'
        f'{place}</header><p class="passage" lang="{escape(hit.lang)}">{snippet(hit.text, card.words)}</p>'
        f'<footer dir="ltr">{legs(card.found, question.mode)}</footer></article></li>'
    )


def _key(card: Card) -> str:
    """The same passage in two indexes has one key."""
    return f"{card.found.hit.doc_id}\n{card.found.hit.text[:100]}"


def mode_name(mode: str) -> str:
    """As the page writes it."""
    return {"bm25": "BM25"}.get(mode, mode.capitalize())
