"""What an index holds and how it was built, as HTML."""

from collections.abc import Sequence
from functools import cache
from html import escape

from mretrieve.errors import MissingDependencyError
from mretrieve.index.jvm import java_description
from mretrieve.index.manifest import Manifest
from mretrieve.report import size

from .cards import language_name


def facts(name: str, manifest: Manifest, *, experts: str = "") -> str:
    """Figures first, then how it was built, then its languages.

    Args:
        name: of the index.
        manifest: its manifest.
        experts: about the experts of its model, empty where it has none.
    """
    figures = [
        (f"{manifest.documents:,}", "passages"),
        (str(len(manifest.languages)), "languages"),
        (size(manifest.n_bytes), "on disk"),
        (str(manifest.encoder.dim) if manifest.encoder else "none", "dimensions"),
    ]
    tiles = "".join(
        f"<div class='tile'><b>{escape(value)}</b><span>{unit}</span></div>" for value, unit in figures
    )
    rows = "".join(
        f"<tr><th scope='row'>{escape(label)}</th><td>{escape(value)}</td></tr>"
        for label, value in _rows(manifest, experts)
    )
    return (
        f"<section class='mr-facts'><h2>{escape(name)}</h2><div class='tiles'>{tiles}</div>"
        f"<table class='built'><tbody>{rows}</tbody></table><h3>Languages</h3>"
        f"{_languages(manifest)}</section>"
    )


def _rows(manifest: Manifest, experts: str) -> Sequence[tuple[str, str]]:
    encoder, dense, ranking, built = manifest.encoder, manifest.dense, manifest.ranking, manifest.built
    rows = []
    if encoder is not None and dense is not None:
        rows.append(("Model", f"{encoder.model} ({encoder.dtype}, fingerprint {encoder.fingerprint})"))
        if experts:
            rows.append(("Experts", experts))
        prefixes = f"“{encoder.query_prefix}” and “{encoder.document_prefix}”"
        rows.append(("Prompts of queries and passages", prefixes))
        made_by = "FAISS " if manifest.files else ""  # a collection in Milvus has no files
        rows.append(("Dense", f"{made_by}{dense.factory}" + (f", {dense.search}" if dense.search else "")))
    else:
        rows.append(("Dense", "none: built without vectors"))
    if any(entry.analyzer for entry in manifest.languages.values()):
        by = "Lucene" if manifest.files else "Milvus"
        rows.append(("BM25", f"{by}, k1 {ranking.k1:g}, b {ranking.b:g}"))
        rows.append(("Java", _java()))
    else:
        rows.append(("BM25", "none: built without it"))
    rows.append(("Fusion", ranking.fusion))
    if built.at:
        rows.append(("Built", f"{built.at} by mretrieve {built.mretrieve}, Python {built.python}"))
    return rows


@cache
def _java() -> str:
    """It reads the version of Lucene from a large file, and stays the same."""
    try:
        return java_description()
    except MissingDependencyError as error:
        return f"none. {error}"


def _languages(manifest: Manifest) -> str:
    entries = sorted(manifest.languages.items(), key=lambda item: (-item[1].documents, item[0]))
    most = max((entry.documents for _, entry in entries), default=1)
    rows = "".join(
        f"<tr><th scope='row'>{escape(language_name(code))} <code>{escape(code)}</code></th>"
        f"<td><i class='meter' style='--level:{100 * entry.documents / most:.0f}%'></i></td>"
        f"<td class='number'>{entry.documents:,}</td><td>{escape(_analyzer(entry.analyzer))}</td></tr>"
        for code, entry in entries
    )
    head = "<tr><th>Language</th><th></th><th class='number'>Passages</th><th>Analyzer</th></tr>"
    table = f"<table class='languages'><thead>{head}</thead><tbody>{rows}</tbody></table>"
    return f"<div class='scroll'>{table}</div>"


def _analyzer(name: str | None) -> str:
    """The last part of `anserini:org.apache.lucene.analysis.ar.ArabicAnalyzer`."""
    return (name or "none").rpartition(":")[2].rpartition(".")[2]
