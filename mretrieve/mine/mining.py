"""Mine hard negatives for a data set: retrieve, drop false negatives, sample; resumably."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mretrieve import files
from mretrieve.mine.candidates import Candidates, Dropped, Triple
from mretrieve.mine.false_negatives import drop_false_negatives
from mretrieve.mine.output import Output
from mretrieve.mine.pool import Pool
from mretrieve.mine.report import MiningReport
from mretrieve.mine.retrieve import retrieve
from mretrieve.mine.sample import check_sampling, sample_negatives
from mretrieve.mine.scorers import CrossEncoderScorer, PoolScorer, Scorer
from mretrieve.mine.task import MiningOptions, Task, read_task
from mretrieve.mine.thresholds import Threshold, language_offsets
from mretrieve.types import Query

OnProgress = Callable[[str, int, int | None], None]

QUERIES_AT_ONCE = 256
"""Queries that a killed run may have to mine again."""

TOKENS_PER_QUERY = 16
"""At the least; it only chooses a backend."""

Sift = Callable[[Sequence[Candidates]], list[Candidates]]


def mine(
    folder: str | Path,
    output: str | Path,
    pool: Pool,
    *,
    options: MiningOptions | None = None,
    overwrite: bool = False,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> MiningReport:
    """Write triples of query, positive and hard negatives for the training questions of a data set.

    Called again in the same way, stopped work goes on where it was, and comes to the same triples.

    Args:
        folder: BEIR folder with queries and qrels. Of `multi-mlqa` what is held out stays aside.
        output: file to make: `.jsonl` or `.jsonl.gz`.
        pool: where to look for negatives: an index that holds at least the positives.
        options: all choices.
        overwrite: replace `output`.
        on_progress: called with a stage, how much of it is done, and of how much.

    Returns:
        The report; it is written beside the triples, too.

    Raises:
        InputError: the data are for evaluation or cannot be used, an option is out of range, or `output`
            exists or cannot be written.
    """
    options, output = options or MiningOptions(), Path(output)
    check_sampling(options.per_query, options.strategy, options.other_languages)
    thresholds = Threshold(options.max_ratio, options.margin), Threshold(options.cross_max_ratio)
    task = read_task(Path(folder), pool, options)
    place = Output(output, fingerprint=task.fingerprint, overwrite=overwrite)
    report = MiningReport(_settings(folder, pool, options))
    with files.storage_errors(output), place.locked():
        sift = _sifter(task, pool, options, *thresholds)
        state, done = place.resume()
        if state is not None:
            report.restore(state)
        on_progress("queries", done, len(task.queries))
        for start in range(done, len(task.queries), QUERIES_AT_ONCE):
            chunk = task.queries[start : start + QUERIES_AT_ONCE]
            sifted = sift(_retrieve(chunk, pool, options))
            triples = _sample(sifted, options)
            report.add(sifted, triples, options.per_query)
            place.append(triples, done=start + len(chunk), state=report.state())
            on_progress("queries", start + len(chunk), len(task.queries))
        place.finish(report)
    return report


def _sifter(
    task: Task, pool: Pool, options: MiningOptions, threshold: Threshold, cross_threshold: Threshold
) -> Sift:
    """Make ready what drops false negatives from each chunk: by the model, then by the cross-encoder."""
    stages: list[tuple[Scorer, Threshold]] = []
    if pool.can_search_meaning or options.cross_encoder is None:
        pool.encoder.expect(len(task.queries) * TOKENS_PER_QUERY)
        if options.same_scale and len(pool.languages) > 1:
            offsets = language_offsets(pool, task.queries, seed=options.seed)
            threshold = replace(threshold, offsets=offsets)
        stages.append((PoolScorer(pool), threshold))
    if options.cross_encoder is not None:
        stages.append((CrossEncoderScorer(options.cross_encoder), cross_threshold))

    def sift(retrieved: Sequence[Candidates]) -> list[Candidates]:
        sifted = [_leave_out(one, task.leave_out) for one in retrieved]
        for scorer, limits in stages:
            sifted = drop_false_negatives(
                sifted,
                task.qrels,
                pool,
                threshold=limits,
                scorer=scorer,
                relations=task.relations,
                max_overlap=options.max_overlap,
            )
        return sifted

    return sift


def _leave_out(one: Candidates, ids: frozenset[str]) -> Candidates:
    """Drop candidates that training must not see."""
    dropped = tuple(Dropped(c, "left out") for c in one.found if c.document.doc_id in ids)
    found = tuple(c for c in one.found if c.document.doc_id not in ids)
    return replace(one, found=found, dropped=one.dropped + dropped)


def _retrieve(chunk: Sequence[Query], pool: Pool, options: MiningOptions) -> list[Candidates]:
    return retrieve(chunk, pool, top_k=options.top_k, mode=options.mode, per_language=options.per_language)


def _sample(sifted: Sequence[Candidates], options: MiningOptions) -> list[Triple]:
    return sample_negatives(
        sifted,
        per_query=options.per_query,
        seed=options.seed,
        strategy=options.strategy,
        other_languages=options.other_languages,
    )


def _settings(folder: str | Path, pool: Pool, options: MiningOptions) -> dict[str, object]:
    """What the report says of how it was made; names of folders only, since paths differ by machine."""
    settings = asdict(options)
    left_out = settings.pop("leave_out")
    return {
        "data": Path(folder).name,
        "index": pool.path.name,
        "model": PoolScorer(pool).name if pool.can_search_meaning else "none",
        **{name: value for name, value in settings.items() if value is not None},
        "ids left out by name": len(left_out),
    }
