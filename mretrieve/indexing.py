"""Build an index from a collection: read, detect languages, encode, and hand over to `index`."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, Unpack

from mretrieve.datasets.source import Skipped, Source, open_source
from mretrieve.encode.encoder import Encoder
from mretrieve.encode.pieces import piece_cutter
from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.index.analyzers import Analyzer, analyzer_named, analyzer_of
from mretrieve.index.build import build
from mretrieve.index.manifest import EncoderIdentity, Manifest, RankingEntry
from mretrieve.index.pieces import PieceMemory
from mretrieve.index.plan import BuildPlan, read_notes, write_notes
from mretrieve.index.stages import Encode, LexicalOptions, OnProgress, ShardEncoder, TextWriter
from mretrieve.index.swap import building_folder, check_target, plain_name
from mretrieve.index.terms import terms_for
from mretrieve.languages import complete_languages, normalize_language
from mretrieve.rank.fusion import Fusion
from mretrieve.ray_workers import RayWorkers
from mretrieve.recipe import Choices, Recipe
from mretrieve.types import Document

logger = logging.getLogger(__name__)

BYTES_PER_TOKEN = 3
"""Of files as they lie on the disk, packed or not; rough, since it only chooses a backend."""

_DETECT_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What was built: the manifest, and what the source made us pass over."""

    manifest: Manifest
    source: Source


def build_index(
    source: str | Path | Source,
    path: str | Path,
    *,
    recipe: Recipe | None = None,
    device: str | RayWorkers = "auto",
    overwrite: bool = False,
    on_error: Literal["stop", "skip"] = "stop",
    on_progress: OnProgress | None = None,
    **choices: Unpack[Choices],
) -> IndexReport:
    """Build an index of a collection; called again in the same way, a stopped build goes on.

    Without Lucene or Java there is a warning and no BM25, unless it was asked for by name.

    Args:
        source: a file or folder of documents, `sample`, an address such as `miracl/sw`, or an open source.
        path: the folder to make.
        recipe: all choices; by default the embedded model, the FAISS index that fits the size, and BM25.
        device: `auto`, `cpu` or `cuda`; or many workers, who are called once all choices are good.
        overwrite: replace an index that stands at `path`.
        on_error: `skip` passes over documents that cannot be used and counts them.
        on_progress: called with a stage's name, how much of it is done, and of how much.
        **choices: `model`, `dtype`, `faiss`, `lang`, `dense`, `lexical` or `bm25_terms`, in place of the
            recipe's.

    Raises:
        InputError: the source, a choice or the target cannot be used.
        MissingDependencyError: FAISS, Lucene or Ray is needed and not installed.
    """
    recipe = (recipe or Recipe()).with_choices(**choices)
    documents = open_source(source, on_error=on_error)
    _check_target(Path(path), overwrite=overwrite)
    lang = "" if recipe.lang == "auto" else normalize_language(recipe.lang)
    lexical = _lexical(recipe)
    identity, encode = _encoding(recipe, device, documents)
    manifest = build(
        read_once(documents, Path(path), lang=lang),
        Path(path),
        plan=BuildPlan(
            source=f"{documents.fingerprint()} {on_error} {lang}",
            encoder=identity,
            faiss=recipe.faiss.factory,
            lexical=lexical is not None,
            ranking=_ranking(recipe),
            device="auto" if isinstance(device, RayWorkers) else device,
        ),
        encode=encode,
        lexical=lexical,
        overwrite=overwrite,
        on_progress=on_progress,
    )
    return IndexReport(manifest, documents)


def read_once(source: Source, path: Path, *, lang: str) -> Iterator[Document]:
    """The documents of a source with their languages, for a build at `path`.

    A build that goes on may have them all and read nothing; `source` then says what it passed over when it
    was read.
    """
    building = building_folder(plain_name(path))
    notes = read_notes(building)  # reading starts to count anew
    source.skipped = Skipped(Counter(notes.get("counts", {})), list(notes.get("examples", [])))
    return _noting(source, building, lang)


def _noting(source: Source, building: Path, lang: str) -> Iterator[Document]:
    yield from with_languages(source.documents(), lang=lang)
    write_notes(building, {"counts": source.skipped.counts, "examples": source.skipped.examples})


def with_languages(documents: Iterable[Document], *, lang: str = "") -> Iterator[Document]:
    """Fill in the language where the data name none: with `lang`, or by detection if that is empty."""
    source = iter(documents)
    while chunk := list(islice(source, _DETECT_AT_ONCE)):
        known = [document.lang or lang for document in chunk]
        found = complete_languages([document.contents for document in chunk], known)
        for document, own in zip(chunk, found, strict=True):
            yield replace(document, lang=own)


def _check_target(path: Path, *, overwrite: bool) -> None:
    """Find out early, before a model is fetched, whether an index may be put at `path`."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:  # neither Arrow nor Java opens such files
        raise InputError(
            f"The name {str(path)!r} is not UTF-8: choose another name for the index."
        ) from error
    check_target(plain_name(path), overwrite=overwrite)


def _encoding(
    recipe: Recipe, device: str | RayWorkers, source: Source
) -> tuple[EncoderIdentity | None, Encode | ShardEncoder | None]:
    """The model, and what makes vectors with it."""
    if not isinstance(device, RayWorkers):
        encoder = encoder_of(recipe, device)
        return (identity_of(encoder, source), encoder.encode_documents) if encoder else (None, None)
    encoder = encoder_of(recipe, "cpu")
    if encoder is None:
        raise InputError("Ray makes vectors, but --no-dense wants none: leave out one of them.")
    workers_device = device.connect()
    assert encoder.dim > 0  # asked while the encoder may still compute here
    encoder.device = workers_device  # from now on it only says what they will do
    identity = identity_of(encoder, source)
    return identity, device.encoding(identity, n_tokens_of(source))


def encoder_of(recipe: Recipe, device: str) -> Encoder | None:
    """The model that a recipe names; None where it wants no vectors."""
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


def identity_of(encoder: Encoder, source: Source) -> EncoderIdentity:
    """What an index says of the model that encodes all of a source."""
    return EncoderIdentity(
        model=_lasting_name(encoder),
        fingerprint=encoder.fingerprint,
        dim=encoder.dim,
        query_prefix=encoder.query_prefix,
        document_prefix=encoder.document_prefix,
        dtype=encoder.expect(n_tokens_of(source)),
    )


def n_tokens_of(source: Source) -> int:
    """About how many tokens a source holds, without reading it."""
    return source.n_bytes // BYTES_PER_TOKEN


def _lasting_name(encoder: Encoder) -> str:
    """The model's name; of a folder its whole path, so that the index finds it from everywhere."""
    folder = encoder.checkpoint.folder
    return str(folder.resolve()) if Path(encoder.name).expanduser() == folder else encoder.name


def _ranking(recipe: Recipe) -> RankingEntry:
    fusion = Fusion.parse(recipe.fusion.spec()) if recipe.fusion else Fusion()
    bm25 = recipe.bm25
    if bm25 is None:
        return RankingEntry(fusion=str(fusion))
    return RankingEntry(fusion=str(fusion), k1=bm25.k1, b=bm25.b, terms=bm25.terms)


def _lexical(recipe: Recipe) -> LexicalOptions | None:
    """How BM25 indexes are written, if there are to be any."""
    if recipe.bm25 is None:
        return None
    try:
        return lexical_options(recipe.bm25.terms, has_vectors=recipe.encoder is not None)
    except MissingDependencyError as error:
        if recipe.asks_for_bm25:
            raise
        logger.warning("Building without BM25. %s", error)
        return None


def lexical_options(
    terms: str, *, has_vectors: bool = True, known: Mapping[str, str] | None = None
) -> LexicalOptions:
    """How BM25 indexes are written, with Lucene.

    Args:
        terms: see `mretrieve.index.terms`.
        has_vectors: whether the index has a dense part too.
        known: language -> name of its analyzer, which it keeps, in an index that is added to.

    Raises:
        MissingDependencyError: Lucene, Java or pyjnius is not installed.
    """
    from mretrieve.index.jvm import find_all

    find_all()  # says what is missing before anything is encoded

    def analyzer(lang: str) -> Analyzer:
        kept = analyzer_named(lang, known[lang]) if known and lang in known else None
        return kept or analyzer_of(lang, terms_for(lang, terms, has_vectors=has_vectors))

    cut = PieceMemory(piece_cutter())

    def open_writer(folder: Path, lang: str) -> TextWriter:
        from mretrieve.index.lucene import LexicalWriter

        return LexicalWriter(folder, lang, cut=cut, terms=analyzer(lang).terms)

    return LexicalOptions(open_writer, lambda lang: str(analyzer(lang)))
