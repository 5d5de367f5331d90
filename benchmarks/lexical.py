"""How fast BM25 indexes are built, on the sentences of the parallel text.

Every language has an index of its own, some 2,250 sentences each of 206 with all files, by the terms that
`mretrieve index` chooses beside vectors. Building is the whole stage: reading the stored documents, cutting
them, Lucene, and putting everything on the disk. `--sentences N` takes the first N; 0, the default, all.
"""

import os
import resource
import tempfile
import time
from pathlib import Path

from common import arguments, print_table, write_json
from sentences import read_sentences

from mretrieve.index.plan import BuildPlan
from mretrieve.index.stages import Work, build_lexical_part, collect_documents
from mretrieve.indexing import lexical_options
from mretrieve.types import Document


def build_lexical(data: Path, limit: int | None, folder: Path, terms: str) -> dict[str, float]:
    """Store the documents, then build their BM25 indexes; figures of the second."""
    sentences = read_sentences(data, limit)
    columns = zip(sentences.ids, sentences.texts, sentences.langs, strict=True)
    documents = (Document(doc_id, text, lang=lang) for doc_id, text, lang in columns)
    work = Work(folder, BuildPlan(source="", encoder=None), lambda *_: None)
    store = collect_documents(work, documents)
    options = lexical_options(terms)
    start, before = time.perf_counter(), os.times()
    build_lexical_part(work, store, options)
    seconds, after = time.perf_counter() - start, os.times()
    return {
        "sentences": len(store),
        "languages": len(store.languages()),
        "seconds": seconds,
        "sentences_per_second": len(store) / seconds,
        "cpu_seconds": after.user + after.system - before.user - before.system,
        "disk_bytes": sum(path.stat().st_size for path in (folder / "lexical").rglob("*") if path.is_file()),
        "most_memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def main() -> None:
    """Build, print a table, write the figures."""
    parser = arguments(__doc__)
    parser.add_argument("--sentences", type=int, default=0)
    parser.add_argument("--terms", default="auto", choices=("auto", "analyzer", "pieces", "both"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = build_lexical(chosen.data, chosen.sentences or None, Path(folder), chosen.terms)
    header = ["sentences", "languages", "seconds", "sentences/s", "CPU seconds", "MB on disk", "MB of memory"]
    row = [
        f"{figures['sentences']:,}",
        f"{figures['languages']}",
        f"{figures['seconds']:.1f}",
        f"{figures['sentences_per_second']:,.0f}",
        f"{figures['cpu_seconds']:.1f}",
        f"{figures['disk_bytes'] / 1e6:.0f}",
        f"{figures['most_memory_bytes'] / 1e6:.0f}",
    ]
    print_table(header, [row])
    write_json(chosen.json, {"terms": chosen.terms} | figures)


if __name__ == "__main__":
    main()
