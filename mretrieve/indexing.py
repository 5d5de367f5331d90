"""Build an index from a collection: read, detect languages, encode, and hand over to `index`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from mretrieve.datasets.source import Source, open_source
from mretrieve.encode.encoder import Encoder
from mretrieve.encode.pieces import cut_into_pieces
from mretrieve.errors import InputError
from mretrieve.index.analyzers import analyzer_of
from mretrieve.index.build import build
from mretrieve.index.manifest import EncoderIdentity, Manifest, RankingEntry
from mretrieve.index.plan import BuildPlan
from mretrieve.index.stages import LexicalOptions, OnProgress, TextWriter
from mretrieve.languages import detect_languages, normalize_language
from mretrieve.rank.fusion import Fusion
from mretrieve.recipe import Recipe
from mretrieve.types import Document

_DETECT_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What was built: the manifest, and what the source made us pass over."""

    manifest: Manifest
    source: Source


def build_index(
    source: str | Path,
    path: str | Path,
    *,
    recipe: Recipe | None = None,
    model: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    on_error: Literal["stop", "skip"] = "stop",
    on_progress: OnProgress | None = None,
) -> IndexReport:
    """Build an index of a collection.

    A build that was interrupted goes on where it stopped when it is called again in the same way.

    Args:
        source: a file or folder of documents, or `sample`.
        path: the folder to make.
        recipe: all choices; by default the embedded model, the FAISS index that fits the size, and BM25.
        model: the encoder, in place of the recipe's.
        device: `auto`, `cpu` or `cuda`.
        overwrite: replace an index that stands at `path`.
        on_error: `skip` passes over documents that cannot be used and counts them.
        on_progress: called with a stage's name, how much of it is done, and of how much.

    Raises:
        InputError: the source, the recipe or the target cannot be used.
        MissingDependencyError: FAISS or Lucene is needed and not installed.
    """
    recipe = recipe or Recipe()
    if model is not None and recipe.encoder is not None:
        recipe = recipe.model_copy(
            update={"encoder": recipe.encoder.model_copy(update={"model": model, "revision": None})}
        )
    if recipe.encoder is None and recipe.bm25 is None:
        raise InputError("An index needs at least one part: dense or lexical.")
    documents = open_source(source, on_error=on_error)
    lang = "" if recipe.lang == "auto" else normalize_language(recipe.lang)
    encoder = _encoder(recipe, device)
    plan = BuildPlan(
        source=f"{documents.fingerprint()} {on_error} {lang}",
        encoder=_identity(encoder) if encoder else None,
        faiss=recipe.faiss.factory,
        lexical=recipe.bm25 is not None,
        ranking=_ranking(recipe),
    )
    manifest = build(
        with_languages(documents.documents(), lang=lang),
        Path(path),
        plan=plan,
        encode=encoder.encode_documents if encoder else None,
        lexical=_lucene() if recipe.bm25 is not None else None,
        overwrite=overwrite,
        on_progress=on_progress,
    )
    return IndexReport(manifest, documents)


def with_languages(documents: Iterable[Document], *, lang: str = "") -> Iterator[Document]:
    """Fill in the language where the data name none: with `lang`, or by detection if that is empty."""
    source = iter(documents)
    while chunk := list(islice(source, _DETECT_AT_ONCE)):
        unknown = [document.contents for document in chunk if not document.lang]
        found = iter([lang] * len(unknown) if lang else detect_languages(unknown))
        for document in chunk:
            yield document if document.lang else replace(document, lang=next(found))


def _encoder(recipe: Recipe, device: str) -> Encoder | None:
    part = recipe.encoder
    if part is None:
        return None
    return Encoder(
        f"{part.model}@{part.revision}" if part.revision else part.model,
        device=device,
        dtype=part.dtype,
        query_prefix=part.query_prefix,
        document_prefix=part.document_prefix,
    )


def _identity(encoder: Encoder) -> EncoderIdentity:
    return EncoderIdentity(
        model=encoder.name,
        fingerprint=encoder.fingerprint,
        dim=encoder.dim,
        query_prefix=encoder.query_prefix,
        document_prefix=encoder.document_prefix,
        dtype=encoder.bulk_dtype(),
    )


def _ranking(recipe: Recipe) -> RankingEntry:
    fusion = Fusion.parse(recipe.fusion.spec()) if recipe.fusion else Fusion()
    bm25 = recipe.bm25
    if bm25 is None:
        return RankingEntry(fusion=str(fusion))
    return RankingEntry(fusion=str(fusion), k1=bm25.k1, b=bm25.b)


def _lucene() -> LexicalOptions:
    from mretrieve.index.jvm import find_all

    find_all()  # says what is missing before anything is encoded

    def open_writer(folder: Path, lang: str) -> TextWriter:
        from mretrieve.index.lucene import LexicalWriter

        return LexicalWriter(folder, lang, cut=cut_into_pieces)

    return LexicalOptions(open_writer, lambda lang: str(analyzer_of(lang)))
