"""Small data in the layout of the real one, and a small model, so that whole recipes run in seconds.

Texts are words of the small models' alphabet. In each language a fact has words of its own, so questions,
passages and parallel sentences belong together by words as well as by what the qrels say.
"""

import csv
import json
import lzma
import random

from tests.conftest import make_checkpoint

LANGUAGES = ("en", "de", "fr", "sw")
N_FACTS = 24


def words(seed, n):
    draw = random.Random(seed)
    return " ".join("".join(draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(4)) for _ in range(n))


def fact(language, number, n=8):
    return words(f"{language} {number}", n)


def passage(name, number):
    """A fact in two sentences of six words each; a line ends a sentence."""
    text = fact(name, number, 12).split()
    return " ".join(text[:6]) + "\n" + " ".join(text[6:])


def write_set(folder, *, documents, queries, qrels):
    """A BEIR folder; qrels by split: (query, document) pairs."""
    (folder / "qrels").mkdir(parents=True)
    for name, records in (("corpus", documents), ("queries", queries)):
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    for split, pairs in qrels.items():
        with (folder / "qrels" / f"{split}.tsv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, delimiter="\t", lineterminator="\n")
            table.writerows([("query-id", "corpus-id", "score"), *((q, d, 1) for q, d in pairs)])
    return folder


def monolingual_set(folder, language, *, seed=""):
    """Two questions on each fact; the first facts are for training, the last for tuning."""
    documents = [
        {
            "_id": f"{language}-d{i}",
            "title": f"t{words(f'{seed}{language}{i}', 1)}",
            "text": passage(seed + language, i),
            "lang": language,
        }
        for i in range(N_FACTS)
    ]
    queries, train, dev = [], [], []
    for i in range(N_FACTS):
        for k in range(2):
            text = fact(seed + language, i, 12).split()[k * 4 : k * 4 + 3]
            queries.append({"_id": f"{language}-q{i}-{k}", "text": " ".join(text), "lang": language})
            (train if i < N_FACTS - 6 else dev).append((f"{language}-q{i}-{k}", f"{language}-d{i}"))
    return write_set(folder, documents=documents, queries=queries, qrels={"train": train, "dev": dev})


def parallel_set(folder):
    """As MLQA: each question in every language, a passage for it in every language."""
    documents, queries, train, xling = [], [], [], []
    for i in range(2 * N_FACTS):
        for language in LANGUAGES:
            doc_id = f"p{i:03d}-{language}"
            documents.append(
                {"_id": doc_id, "title": "", "text": passage(f"m{language}", i), "lang": language}
            )
            query = " ".join(fact(f"m{language}", i, 10).split()[:3])
            queries.append({"_id": f"{language}-{i:03d}", "text": query, "lang": language})
            for other in LANGUAGES:
                (train if other == language else xling).append((f"{language}-{i:03d}", f"p{i:03d}-{other}"))
    return write_set(
        folder, documents=documents, queries=queries, qrels={"train": train, "train-xling": xling}
    )


def crosslingual_set(folder):
    """As AfriQA: questions in one language, passages in another."""
    documents = [
        {"_id": f"a{i}", "title": "", "text": passage("a en", i), "lang": "en"} for i in range(N_FACTS)
    ]
    queries = [{"_id": f"sw-a{i}", "text": fact("a sw", i, 3), "lang": "sw"} for i in range(N_FACTS)]
    pairs = [(f"sw-a{i}", f"a{i}") for i in range(N_FACTS)]
    return write_set(folder, documents=documents, queries=queries, qrels={"train": pairs})


_TOPICS = ("mrtydi-topics-qrels/topics.x.dev.txt", "mrtydi-topics-qrels/topics.x.test.txt")


def tiny_data(root):
    """`train/`, `eval/` and `parallel/` below a folder."""
    for language in LANGUAGES:
        monolingual_set(root / "train" / f"{language}-facts", language)
    parallel_set(root / "train" / "multi-mlqa")
    crosslingual_set(root / "train" / "multi-afriqa")
    monolingual_set(root / "eval" / "de-other", "de", seed="other ")
    monolingual_set(root / "xquad" / "fr", "fr", seed="xquad ")
    monolingual_set(root / "xquad-r", "en", seed="xquad-r ")
    for name in ("miracl-topics-qrels/topics.x-dev.tsv", *_TOPICS):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(f"1\t{words(name, 3)}\n", encoding="utf-8")
    (root / "parallel").mkdir()
    codes = {"eng": "en", "deu": "de", "fra": "fr", "swa": "sw", "bul": "bg"}
    with lzma.open(root / "parallel" / "ntrex-128.jsonl.xz", "wt", encoding="utf-8") as file:
        for i in range(40):
            row = {code: fact(f"parallel {language}", i) for code, language in codes.items()}
            file.write(json.dumps({"id": f"ntrex-{i:04d}", "doc": "d"} | row) + "\n")
    manifest = [{"path": "train/de-facts", "licence": "CC0", "source": "nowhere", "about": "made up"}]
    (root / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return root


def tiny_base(folder):
    """A dense model of two layers; as teacher and as what is upcycled."""
    folder.mkdir()
    return make_checkpoint(folder, prompts={"query": "q ", "passage": "p "})


def tiny_reranker(folder, *, outputs=1, seed=3):
    """A cross-encoder of random weights, with so many outputs."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    tiny_base(folder)
    torch.manual_seed(seed)
    BertForSequenceClassification(BertConfig.from_pretrained(folder, num_labels=outputs)).save_pretrained(
        folder
    )
    for name in ("modules.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    return folder
