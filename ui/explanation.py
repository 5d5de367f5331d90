"""What "Explain" opens: the parts of a score, the words that count, the analyzer's terms."""

from collections.abc import Sequence
from html import escape

from mretrieve.errors import MissingDependencyError
from mretrieve.index.analyzers import analyzer_of
from mretrieve.milvus.address import is_milvus_address
from mretrieve.rank.explain import Found
from mretrieve.rank.retriever import Retriever
from mretrieve.rank.terms import TermScore, analyze, term_scores

from .cards import language_name

_TERMS_SHOWN = 160


def score_table(found: Found) -> str:
    """How the score came about, leg by leg."""
    hit = found.hit
    rows = [
        ("Dense", _score(hit.dense_score, hit.dense_rank, 4), found.dense_part),
        ("BM25", _score(hit.bm25_score, hit.bm25_rank, 3), found.bm25_part),
    ]
    if found.unseen_part:
        rows.append(("Benefit of the doubt", "BM25 did not look at this language", found.unseen_part))
    rows = [row for row in rows if row[2] or row[1]]
    body = "".join(
        f"<tr><th scope='row'>{name}</th><td>{escape(said)}</td><td class='number'>{part:.3f}</td></tr>"
        for name, said, part in rows
    )
    is_joined = hit.dense_rank and hit.bm25_rank or found.unseen_part
    joined = f"joined by {escape(str(found.fusion))}" if is_joined else ""
    return (
        "<table class='parts'><thead><tr><th>Leg</th><th>Its score and rank</th><th class='number'>Adds</th>"
        f"</tr></thead><tbody>{body}</tbody><tfoot><tr><th scope='row'>Score</th><td>{joined}</td>"
        f"<td class='number'>{hit.score:.3f}</td></tr></tfoot></table>"
    )


def words_table(scores: Sequence[TermScore]) -> str:
    """The query's terms that the passage has, and what each is worth to BM25."""
    if not scores:
        return "<p>The passage has none of the query's terms.</p>"
    most = max(one.score for one in scores)
    rows = "".join(
        f"<tr><th scope='row' dir='auto'>{escape(one.term)}{' (piece)' if one.is_piece else ''}</th>"
        f"<td><i class='meter' style='--level:{100 * one.score / most:.0f}%'></i></td>"
        f"<td class='number'>{one.score:.2f}</td><td class='number'>{one.frequency}×</td>"
        f"<td class='number'>{one.documents:,}</td></tr>"
        for one in scores
    )
    return (
        "<table class='words'><thead><tr><th>Term</th><th></th><th class='number'>Adds to BM25</th>"
        "<th class='number'>Here</th><th class='number'>Passages with it</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def term_list(terms: Sequence[str], shared: Sequence[str]) -> str:
    """Terms in their order, those of `shared` marked."""
    known = set(shared)
    chips = "".join(
        f"<span class='term{' shared' if term in known else ''}' dir='auto'>{escape(term)}</span>"
        for term in terms[:_TERMS_SHOWN]
    )
    more = len(terms) - _TERMS_SHOWN
    return f"<p class='terms'>{chips}{f' and {more:,} more' if more > 0 else ''}</p>"


def explanation(retriever: Retriever, query: str, found: Found) -> str:
    """Everything about one hit."""
    hit = found.hit
    parts = [score_table(found)]
    try:
        if is_milvus_address(retriever.index.path):
            parts.append("<p>What each term adds to BM25, Milvus does not tell.</p>")
        else:
            parts.append(words_table(term_scores(retriever, query, found.row)))
        asked, has = analyze(query, hit.lang, query=True), analyze(hit.text, hit.lang)
    except MissingDependencyError as error:
        return "".join([*parts, f"<p>{escape(str(error))}</p>"])
    name = analyzer_of(hit.lang).name.rpartition(".")[2]
    parts.append(f"<h4>The query, read as {escape(language_name(hit.lang))} ({escape(name)})</h4>")
    parts.append(term_list(asked, has))
    parts.append("<h4>The passage</h4>" + term_list(has, asked))
    return "".join(parts)


def _score(score: float | None, rank: int | None, digits: int) -> str:
    return "" if score is None else f"{score:.{digits}f}, rank {rank}"
