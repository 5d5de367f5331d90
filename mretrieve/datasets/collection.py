"""Open a collection by its address: documents, topics and judgements, from the cache or from a root."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mretrieve.datasets import hf, miracl, mrtydi, xquad
from mretrieve.datasets.address import Address, is_address, parse_address
from mretrieve.datasets.catalogue import Benchmark, benchmarks
from mretrieve.datasets.layout import MissingFilesError, Part, downloads, find, missing
from mretrieve.datasets.passages import CorpusSource
from mretrieve.datasets.source import OnError, Source, find_beir_file, open_source
from mretrieve.errors import InputError
from mretrieve.languages import normalize_language
from mretrieve.types import Qrels, Query

_OFFICIAL = {"miracl": miracl, "mrtydi": mrtydi}


@dataclass(frozen=True)
class Collection:
    """Documents with the topics and judgements of some splits.

    Attributes:
        address: without a split; what an index is built of.
        title: for people.
        lang: of all documents and topics that name none; empty where each names its own.
        place: file or folder that holds the documents and nothing else.
        corpus: the files of documents, in the order of reading.
        topics: split -> files of topics.
        qrels: split -> files of judgements.
        split: the one that is meant where none is named; empty if there is no such.
        measures: what is reported of it.
        passages: documents that the published collection has; None where that is not known.
        shared_topics: whether files of topics hold more than those of one split.
    """

    address: str
    title: str
    lang: str
    place: Path
    corpus: tuple[Path, ...]
    topics: Mapping[str, Sequence[Path]]
    qrels: Mapping[str, Sequence[Path]]
    split: str = ""
    measures: tuple[str, ...] = ("nDCG@10", "R@100")
    passages: int | None = None
    shared_topics: bool = False
    _seen: dict[str, Qrels] = field(default_factory=dict, repr=False, compare=False)

    def source(self, *, on_error: OnError = "stop") -> Source:
        """The documents, as a stream that can be read again and again."""
        if all(path.name.endswith((".jsonl", ".jsonl.gz", ".parquet")) for path in self.corpus):
            return CorpusSource(self.address, self.place, self.corpus, on_error, lang=self.lang)
        return open_source(self.place, on_error=on_error)

    def queries(self, split: str = "") -> list[Query]:
        """The topics of a split, in the order of the file, each with its language where that is known.

        Raises:
            InputError: there is no such split, or a file of it cannot be read.
        """
        split = self.choose(split)
        topics = hf.read_topics(self.topics[split])
        if self.shared_topics:
            judged = self.judgements(split)
            topics = [topic for topic in topics if topic.query_id in judged]
        return [topic if topic.lang else replace(topic, lang=self.lang) for topic in topics]

    def judgements(self, split: str = "") -> Qrels:
        """The judgements of a split: query_id -> doc_id -> grade.

        Raises:
            InputError: there is no such split, or a file of it cannot be read.
        """
        split = self.choose(split)
        if split not in self._seen:
            self._seen[split] = hf.read_judgements(self.qrels[split])
        return self._seen[split]

    def choose(self, split: str = "") -> str:
        """The split that is meant.

        Raises:
            InputError: it is not there, or none is named and there are several.
        """
        chosen = split or self.split or (next(iter(self.qrels)) if len(self.qrels) == 1 else "")
        if chosen in self.qrels:
            return chosen
        there = ", ".join(self.qrels) or "none"
        if not chosen:
            raise InputError(f"{self.address} has several splits ({there}): name one by --split.")
        raise InputError(f"{self.address} has no split '{chosen}' here: there are {there}.")


def at_address(text: str | Path) -> Collection | None:
    """Open the collection that an address names; None for everything else, such as a path that is there.

    Raises:
        InputError: as `open_collection`.
    """
    given = str(text)
    if given == "sample" or Path(given).exists():  # asked first, for they are nearly all there is
        return None
    return open_collection(given) if is_address(given) else None


def parts_of(address: Address) -> list[Part]:
    """The published files of a benchmark's language, of one split or of all that it has."""
    benchmark = address.benchmark
    assert benchmark is not None
    if benchmark.key == "xquad":
        return [xquad.xquad(address.lang)]
    if benchmark.pooled:
        return [xquad.xquad_r(lang) for lang in benchmark.languages]
    official = _OFFICIAL[benchmark.key]
    splits = [address.split] if address.split else list(benchmark.languages[address.lang].splits)
    parts = [official.corpus(address.lang)]
    for split in splits:
        parts += [official.topics(address.lang, split), official.qrels(address.lang, split)]
    return parts


def open_collection(address: str | Address, *, root: Path | None = None, reason: str = "") -> Collection:
    """Open a collection that is on this machine.

    Args:
        address: see `mretrieve.datasets.address`.
        root: folder of downloads to read instead of the cache's.
        reason: why it was not fetched, for the message.

    Raises:
        InputError: the address is unknown, or files are missing; the message says what to put where.
    """
    address = parse_address(address) if isinstance(address, str) else address
    if root is not None and not root.is_dir():
        raise InputError(f"There is no folder {root}. --root names one that holds downloaded collections.")
    if address.kind == "beir":
        return _beir(Path(address.place).expanduser(), address)
    if address.kind == "hf":
        return _hub(address, root, reason)
    benchmark = address.benchmark
    assert benchmark is not None
    if benchmark.key in _OFFICIAL:
        return _official(address, benchmark, root, reason)
    return _xquad(address, benchmark, root, reason)


def _official(address: Address, benchmark: Benchmark, root: Path | None, reason: str) -> Collection:
    official, lang = _OFFICIAL[benchmark.key], address.lang
    base, whole = root or downloads(), root is None
    look = _with_archives(base, mrtydi.archives(lang, base) if official is mrtydi else ())
    corpus = look(official.corpus(lang), whole)
    splits = [address.split] if address.split else list(benchmark.languages[lang].splits)
    topics = {split: look(official.topics(lang, split), True) for split in splits}
    qrels = {split: look(official.qrels(lang, split), True) for split in splits}
    there = [split for split in splits if topics[split] and qrels[split]]
    if not corpus or not there:
        raise missing(address.collection, parts_of(address), root, reason)
    return Collection(
        address.collection,
        f"{benchmark.title} {lang}",
        lang,
        corpus[0].parent if len(official.corpus(lang).paths) > 1 or len(corpus) > 1 else corpus[0],
        corpus,
        {split: topics[split] for split in there},
        {split: qrels[split] for split in there},
        split=address.split or (benchmark.split if benchmark.split in there else ""),
        measures=benchmark.measures,
        passages=benchmark.languages[lang].passages,
    )


def _with_archives(base: Path, archives: Sequence[Path]) -> Callable[[Part, bool], tuple[Path, ...]]:
    """Look for parts under a root, and failing that in archives, which are unpacked then."""

    def look(part: Part, whole: bool) -> tuple[Path, ...]:
        if found := find(base, part, whole=whole):
            return found
        return next((files for one in archives if (files := find(mrtydi.unpack(one), part, whole=whole))), ())

    return look


def _xquad(address: Address, benchmark: Benchmark, root: Path | None, reason: str) -> Collection:
    if root is not None:
        names = (benchmark.key, address.lang) if address.lang else (benchmark.key,)
        for folder in (root.joinpath(*names), root / "-".join(names), root):
            if find_beir_file(folder, "corpus"):
                return replace(_beir(folder, address), passages=_size(benchmark, address))
    parts = parts_of(address)
    files = [find(root or downloads(), part, whole=True) for part in parts]
    if not all(files):
        raise missing(str(address), parts, root, reason)
    if address.lang:
        folder = xquad.beir_of_xquad(address.lang, files[0][0])
    else:
        folder = xquad.beir_of_xquad_r(
            {lang: one[0] for lang, one in zip(benchmark.languages, files, strict=True)}
        )
    return replace(_beir(folder, address), passages=_size(benchmark, address))


def _size(benchmark: Benchmark, address: Address) -> int:
    return benchmark.languages[address.lang].passages if address.lang else benchmark.passages


def _beir(folder: Path, address: Address) -> Collection:
    corpus = find_beir_file(folder, "corpus")
    topics = find_beir_file(folder, "queries")
    if corpus is None or topics is None:
        raise InputError(
            f"{folder} is no BEIR folder: it needs corpus.jsonl and queries.jsonl (gzipped or not), and "
            "qrels/SPLIT.tsv."
        )
    qrels = {file.name.partition(".")[0]: (file,) for file in sorted((folder / "qrels").glob("*.tsv*"))}
    if not qrels:
        raise InputError(f"{folder} has no judgements: put them into {folder / 'qrels'}/SPLIT.tsv.")
    benchmark = address.benchmark
    return Collection(
        address.collection,
        f"{benchmark.title} {address.lang}".strip() if benchmark else folder.name,
        address.lang,
        folder,
        (corpus,),
        dict.fromkeys(qrels, (topics,)),
        qrels,
        split=address.split or ("test" if "test" in qrels else ""),
        measures=benchmark.measures if benchmark else ("nDCG@10", "R@100"),
        shared_topics=True,
    )


def _hub(address: Address, root: Path | None, reason: str) -> Collection:
    name = address.place.partition("@")[0]
    bases = [downloads() / name] if root is None else [root / name, root / name.rpartition("/")[2], root]
    for base in bases:
        paths = [path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()]
        files = hf.classify(paths, address.config)
        if files.corpus and files.queries and files.qrels:
            return _of_hub_files(address, base, files)
    known = f" Its configurations are: {', '.join(names)}." if (names := hf.configurations(paths)) else ""
    where = root or downloads()
    raise MissingFilesError(
        f"{address} is not in {where}{f' ({reason})' if reason else ''}: fetch it with `mretrieve download "
        f"{address}`, or put the files of the repository into {where / name}.{known}"
    )


def _of_hub_files(address: Address, base: Path, files: hf.HubFiles) -> Collection:
    splits = files.splits() or [""]
    split = "test" if "test" in splits else (splits[0] if len(splits) == 1 else "")
    corpus = tuple(base / path for path in hf.of_split(files.corpus, split or splits[0]))
    topics = {one: tuple(base / path for path in hf.of_split(files.queries, one)) for one in splits}
    return Collection(
        str(address),
        str(address),
        _language(address.config),
        corpus[0].parent if len(corpus) > 1 else corpus[0],
        corpus,
        topics,
        {one: tuple(base / path for path in hf.of_split(files.qrels, one)) for one in splits},
        split=split,
        shared_topics=True,
    )


def _language(config: str) -> str:
    """The language that a configuration is named after, by its code or as Mr. TyDi names it."""
    names = {entry.name: code for code, entry in benchmarks()["mrtydi"].languages.items()}
    try:
        return names.get(config) or normalize_language(config)
    except InputError:
        return ""
