"""The commands that measure, as a user types them."""

import gzip
import json
import re

import numpy as np
import pytest

from mretrieve.datasets.queries import read_queries
from mretrieve.evaluate.significance import compare
from mretrieve.rank.retriever import Retriever
from mretrieve.types import Query
from tests.conftest import write_jsonl


@pytest.fixture
def judged(tmp_path):
    """Two runs over two queries with one relevant document each; the second run ranks it second for q2."""
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\ta\t1\nq2\tb\t1\n")
    (tmp_path / "one.trec").write_text("q1 Q0 a 1 2.0 t\nq2 Q0 b 1 2.0 t\n")
    (tmp_path / "two.trec").write_text("q1 Q0 a 1 2.0 t\nq2 Q0 a 1 2.0 t\nq2 Q0 b 2 1.0 t\n")
    return tmp_path


# evaluate


def test_evaluate_prints_a_table_of_runs(command, judged):
    done = command("evaluate", judged / "one.trec", judged / "two.trec", "--qrels", judged / "qrels.tsv")
    second = (1 + 1 / np.log2(3)) / 2  # the relevant document at ranks 1 and 2
    assert done.stdout == (
        "run       queries  nDCG@10   R@100   RR@10  Judged@10\n"
        "one.trec        2   1.0000  1.0000  1.0000     1.0000\n"
        f"two.trec        2   {second:.4f}  1.0000  0.7500     0.7500\n"
    )
    assert (done.status, done.stderr) == (0, "")


def test_evaluate_by_language(command, judged):
    records = [{"_id": "q1", "text": "x", "lang": "en"}, {"_id": "q2", "text": "ما هو النهر"}]
    queries = write_jsonl(judged / "queries.jsonl", records)
    options = ["--qrels", judged / "qrels.tsv", "--queries", queries, "--measures", "RR@10"]
    done = command("evaluate", judged / "two.trec", *options)
    assert done.stdout.splitlines() == [
        "run       language       queries   RR@10",
        "two.trec  ar                   1  0.5000",
        "two.trec  en                   1  1.0000",
        "two.trec  mean of these           0.7500",
        "two.trec  all                  2  0.7500",
    ]
    result = command("evaluate", judged / "two.trec", *options, "--json").json[str(judged / "two.trec")]
    assert result["mean"] == result["mean_of_languages"] == {"RR@10": 0.75}
    assert result["languages"]["ar"]["mean"] == {"RR@10": 0.5}


def test_evaluate_prints_json_and_tells_of_missing_queries_on_stderr(command, judged):
    run = judged / "three.trec"
    run.write_text("q1 Q0 a 1 2.0 t\nother Q0 a 1 2.0 t\n")
    done = command("evaluate", run, "--qrels", judged / "qrels.tsv", "--measures", "rr@10, P@1", "--json")
    assert done.json == {
        str(run): {
            "mean": {"RR@10": 0.5, "P@1": 0.5},
            "queries": 2,
            "missing": 1,
            "unjudged": 1,
            "duplicates": 0,
        }
    }
    assert f"{run}: 1 judged query not in the run, counted as 0.\n" in done.stderr
    assert f"{run}: 1 query without judgements, left out.\n" in done.stderr


def test_evaluate_counts_a_document_once_at_its_best_score_and_says_so(command, judged):
    run = judged / "again.trec"
    run.write_text("q1 Q0 b 1 2.0 t\nq1 Q0 a 2 1.0 t\nq1 Q0 a 3 3.0 t\nq2 Q0 b 1 2.0 t\nq2 Q0 b 2 1.0 t\n")
    done = command("evaluate", run, "--qrels", judged / "qrels.tsv", "--measures", "RR@10", "--json")
    assert done.json[str(run)]["mean"] == {"RR@10": 1.0}
    assert done.json[str(run)]["duplicates"] == 2
    assert (
        f"{run}: 2 lines with a document ranked before for its query; its best score counts.\n" in done.stderr
    )


def test_evaluate_with_intervals(command, judged):
    options = ["--qrels", judged / "qrels.tsv", "--measures", "RR@10", "--intervals"]
    done = command("evaluate", judged / "two.trec", *options)
    # Of two queries with 1 and 0.5 a draw has both once, or one of them twice.
    assert done.stdout.splitlines() == [
        "run       queries   RR@10  RR@10 low  RR@10 high",
        "two.trec        2  0.7500     0.5000      1.0000",
    ]
    queries = write_jsonl(
        judged / "queries.jsonl",
        [{"_id": "q1", "text": "x", "lang": "en"}, {"_id": "q2", "text": "y", "lang": "de"}],
    )
    result = command("evaluate", judged / "two.trec", *options, "--queries", queries, "--json").json
    one = result[str(judged / "two.trec")]
    assert one["languages"]["de"]["mean"] == {"RR@10": 0.5, "RR@10 low": 0.5, "RR@10 high": 0.5}
    assert one["mean_of_languages"]["RR@10 low"] == 0.5


def test_runs_of_one_name_are_told_apart_by_their_folders(command, judged):
    (judged / "b").mkdir()
    other = judged / "b" / "one.trec"
    other.write_bytes((judged / "two.trec").read_bytes())
    done = command("evaluate", judged / "one.trec", other, "--qrels", judged / "qrels.tsv")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == [
        str(judged / "one.trec"),
        str(other),
    ]


# compare


@pytest.fixture
def two_runs(tmp_path):
    """Forty queries in two languages; the second run ranks the relevant document higher for most."""
    draw = np.random.default_rng(1)
    ranks = draw.integers(1, 6, (2, 40))
    ranks[1] = np.minimum(ranks[1], ranks[0])
    for name, row in zip(("a.trec", "b.trec"), ranks, strict=True):
        lines = [
            f"q{n} Q0 {'right' if place == rank else f'd{place}'} {place} {10 - place} t\n"
            for n, rank in enumerate(row)
            for place in range(1, 7)
        ]
        (tmp_path / name).write_text("".join(lines) + "unknown Q0 d1 1 1.0 t\n")
    (tmp_path / "qrels.tsv").write_text("".join(f"q{n} 0 right 1\n" for n in range(40)))
    records = [{"_id": f"q{n}", "text": "x", "lang": "de" if n < 30 else "sw"} for n in range(40)]
    write_jsonl(tmp_path / "queries.jsonl", records)
    return tmp_path, 1 / ranks


def test_compare_by_language(command, two_runs):
    folder, values = two_runs
    given = [folder / "a.trec", folder / "b.trec", "--qrels", folder / "qrels.tsv", "--measures", "RR@10"]
    done = command("compare", *given, "--queries", folder / "queries.jsonl", "--json")
    rows = {row["language"]: row for row in done.json["rows"]}
    assert list(rows) == ["de", "sw", "mean of languages", "all queries"]
    one, other = values
    expected = compare(one[:30], other[:30])
    assert rows["de"]["difference"] == pytest.approx((other - one)[:30].mean())
    assert (rows["de"]["low"], rows["de"]["high"]) == pytest.approx((expected.low, expected.high))
    assert rows["de"]["p_value"] == expected.p_value
    assert rows["de"]["p_holm"] >= rows["de"]["p_value"]
    assert rows["de"]["better"] == int((other > one)[:30].sum())
    assert (rows["de"]["worse"], rows["sw"]["queries"]) == (0, 10)
    assert rows["mean of languages"]["second"] == pytest.approx((other[:30].mean() + other[30:].mean()) / 2)
    assert rows["all queries"]["first"] == pytest.approx(one.mean())
    assert done.stderr.count("1 query without judgements, left out.") == 2
    table = command("compare", *given).stdout.splitlines()
    assert len(table) == 2
    assert re.split(r"\s{2,}", table[1])[:3] == ["RR@10", "all queries", "40"]
    assert f"{(other - one).mean():+.4f}" in table[1]


def test_compare_of_a_run_with_itself(command, two_runs):
    folder, _ = two_runs
    done = command("compare", folder / "a.trec", folder / "a.trec", "--qrels", folder / "qrels.tsv", "--json")
    [row] = done.json["rows"]
    assert (row["difference"], row["p_value"], row["better"], row["worse"]) == (0.0, 1.0, 0, 0)


# fairness


@pytest.fixture
def mixed(tmp_path):
    """A run that puts all English documents before all Swahili ones, of which as many are relevant."""
    documents = [{"_id": f"{lang}{n}", "text": "x", "lang": lang} for lang in ("en", "sw") for n in range(8)]
    corpus = write_jsonl(tmp_path / "corpus.jsonl", documents)
    rows = [f"q Q0 {one['_id']} 0 {-n} t\n" for n, one in enumerate(documents)]
    (tmp_path / "run.trec").write_text("".join(rows))
    (tmp_path / "qrels.tsv").write_text("".join(f"q 0 {one['_id']} 1\n" for one in documents))
    return tmp_path, corpus


def test_fairness_of_a_biased_run(command, mixed):
    folder, corpus = mixed
    given = ["fairness", folder / "run.trec", "--qrels", folder / "qrels.tsv", "--languages", corpus]
    queries = write_jsonl(folder / "queries.jsonl", [{"_id": "q", "text": "maji", "lang": "sw"}])
    done = command(*given, "--queries", queries, "--depth", 16)
    lines = [re.split(r"\s{2,}", line) for line in done.stdout.splitlines() if line]
    assert lines[0] == ["queries", "PEER@16", "language bias"]
    assert float(lines[1][1]) < 0.01
    assert lines[3][:5] == ["en", "0.5000", "1.0000", "0.8000", f"{(1 - 0.9**8) / (1 - 0.9**16):.4f}"]
    assert lines[5][:3] == ["own", "0.5000", "0.0000"]
    figures = command(*given, "--json").json
    assert figures["own_language"] is None
    assert figures["languages"][0]["curve"][:9] == pytest.approx([1.0] * 8 + [8 / 9])


def test_fairness_takes_languages_from_an_index_too(command, tmp_path, small_index):
    (tmp_path / "run.trec").write_text("q Q0 cat 1 2.0 t\nq Q0 hund 2 1.0 t\nother Q0 no-such 1 1.0 t\n")
    (tmp_path / "qrels.tsv").write_text("q 0 cat 1\nq 0 hund 1\n")
    given = ["fairness", tmp_path / "run.trec", "--qrels", tmp_path / "qrels.tsv", "--languages", small_index]
    figures = command(*given, "--json").json
    assert {one["language"]: one["first"] for one in figures["languages"]} == {"de": 0.0, "en": 1.0}


def test_fairness_with_the_wrong_collection(command, mixed, collection):
    folder, _ = mixed
    done = command(
        "fairness", folder / "run.trec", "--qrels", folder / "qrels.tsv", "--languages", collection
    )
    assert done.status == 2
    assert "The language of 16 documents is not known, such as 'en0' for query 'q'." in done.stderr


# perturb


@pytest.fixture
def questions(tmp_path):
    records = [
        {"_id": "q1", "text": "Who built the first steam engine?", "lang": "en"},
        {"_id": "q2", "text": "फ्रांस की राजधानी क्या है?"},
    ]
    return write_jsonl(tmp_path / "queries.jsonl", records)


@pytest.mark.parametrize("kind", ["typo", "romanise", "camouflage"])
def test_perturb_writes_the_same_variants_each_time(command, tmp_path, questions, kind):
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl.gz"
    for output in (one, other):
        done = command("perturb", questions, output, "--kind", kind, "--rate", 1, "--seed", 5)
        assert re.fullmatch(rf"{re.escape(str(output))}: 2 queries, [12] of them changed\n", done.stderr)
    assert one.read_bytes() == gzip.decompress(other.read_bytes())
    made = read_queries(one)
    assert [query.query_id for query in made] == ["q1", "q2"]
    assert (made[0].lang, made[1].lang) == ("en", "")
    assert made[1].text != "फ्रांस की राजधानी क्या है?"
    assert made[1].text.isascii() == (kind == "romanise")


def test_perturb_mixes_with_a_dictionary_or_parallel_text(command, tmp_path, questions):
    (tmp_path / "words.tsv").write_text("# English, French\nsteam\tvapeur\nEngine\tmachine\n")
    given = ["perturb", questions, tmp_path / "out.jsonl", "--kind", "code-mix", "--rate", 1]
    assert command(*given, "--dictionary", tmp_path / "words.tsv").status == 0
    assert read_queries(tmp_path / "out.jsonl")[0].text == "Who built the first vapeur machine?"
    rows = [{"eng": f"the {word} {n}", "fra": f"la {other} {n}"} for n in range(4) for word, other in PAIRS]
    parallel = write_jsonl(tmp_path / "parallel.jsonl", rows)
    assert command(*given, "--parallel", parallel, "--into", "fr", "--overwrite").status == 0
    assert read_queries(tmp_path / "out.jsonl")[0].text == "Who built la first vapeur machine?"


PAIRS = (("steam", "vapeur"), ("engine", "machine"), ("river", "fleuve"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--kind", "typo", "--rate", 2], r"The rate is 2\.0, but it is a share"),
        (["--kind", "code-mix"], r"needs one file: give --dictionary or --parallel"),
        (["--kind", "typo", "--dictionary", "no"], None),
    ],
)
def test_perturb_with_wrong_options(command, tmp_path, questions, options, sentence):
    done = command("perturb", questions, tmp_path / "out.jsonl", *options)
    if sentence is None:
        assert done.status == 0
        return
    assert done.status == 2
    assert re.search(sentence, done.stderr)
    assert not (tmp_path / "out.jsonl").exists()


def test_perturb_replaces_nothing_unasked(command, tmp_path, questions):
    (tmp_path / "out.jsonl").write_text("mine")
    done = command("perturb", questions, tmp_path / "out.jsonl", "--kind", "typo")
    assert done.status == 2
    assert "exists. Choose another name, or replace it with --overwrite." in done.stderr
    assert (tmp_path / "out.jsonl").read_text() == "mine"
    done = command("perturb", questions, tmp_path / "out.tsv", "--kind", "typo")
    assert "give a name that ends in .jsonl" in done.stderr


# bitext


def test_bitext_of_parallel_text_and_of_two_files(command, tmp_path, model):
    words = ("the cat", "a dog", "alte Bäume", "im Wald", "große Hunde")
    rows = [{"eng": text, "deu": text, "swa": other} for text, other in zip(words, words[::-1], strict=True)]
    parallel = write_jsonl(tmp_path / "parallel.jsonl", rows)
    done = command("bitext", parallel, "--model", model, "--json")
    german, swahili = done.json
    assert (german["first"], german["second"], german["sentences"]) == ("de", "en", 5)
    assert (german["accuracy"], german["xsim"]) == (1.0, 0.0)
    # Of the mirrored sentences only the middle one is its own translation.
    assert (swahili["forward"], swahili["backward"], swahili["xsim_forward"]) == (0.2, 0.2, 0.8)
    for name in ("eng", "swa"):
        (tmp_path / f"{name}.txt").write_text("".join(row[name] + "\n" for row in rows), encoding="utf-8")
    [pair] = command("bitext", tmp_path / "swa.txt", tmp_path / "eng.txt", "--model", model, "--json").json
    assert pair["forward"] == swahili["forward"]
    assert (pair["first"], pair["second"]) == (str(tmp_path / "swa.txt"), str(tmp_path / "eng.txt"))
    table = command("bitext", parallel, "--model", model).stdout.splitlines()
    assert [line.split()[0] for line in table] == ["first", "de", "sw", "mean"]


def test_bitext_of_files_that_do_not_fit(command, tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.txt").write_text("eins\n")
    done = command("bitext", tmp_path / "a.txt", tmp_path / "b.txt")
    assert done.status == 2
    assert "has 2 lines, but" in done.stderr
    (tmp_path / "b.txt").write_text("eins\n\n")
    assert "b.txt:2: an empty line" in command("bitext", tmp_path / "a.txt", tmp_path / "b.txt").stderr
    assert "was given twice" in command("bitext", tmp_path / "a.txt", tmp_path / "a.txt").stderr


# tune


@pytest.fixture
def tuned(tmp_path, model):
    """An index of 40 documents in two languages, and a query for each that has its words."""
    from mretrieve.indexing import build_index

    texts = [(f"cat{n} sat on mat{n % 7}", "en") for n in range(35)] + [("alte Bäume im Wald", "de")]
    corpus = [{"_id": f"d{n}", "text": text, "lang": lang} for n, (text, lang) in enumerate(texts)]
    asked = [{"_id": f"q{n}", "text": text, "lang": lang} for n, (text, lang) in enumerate(texts)]
    write_jsonl(tmp_path / "queries.jsonl", asked)
    (tmp_path / "dev.tsv").write_text("".join(f"q{n}\td{n}\t1\n" for n in range(36)))
    build_index(write_jsonl(tmp_path / "corpus.jsonl", corpus), tmp_path / "index", model=str(model))
    return tmp_path


def test_tune_learns_by_language_and_searches_use_it(command, tuned):
    given = ["tune", tuned / "index", "--queries", tuned / "queries.jsonl", "--qrels"]
    assert command(*given, tuned / "dev.tsv", "--dry-run").status == 0
    assert Retriever(tuned / "index").tuned == {}
    done = command(*given, tuned / "dev.tsv", "--json")
    assert (done.status, done.stderr) == (0, "")
    assert list(done.json["languages"]) == ["en"]  # one German query is too few
    english = done.json["languages"]["en"]
    assert english["queries"] == 35
    assert english["after"] >= max(english["dense"], english["bm25"])
    retriever = Retriever(tuned / "index")
    assert str(retriever.tuned["en"]) == english["fusion"]
    assert command("info", tuned / "index", "--verify").status == 0
    queries = [Query("q", "cat3 sat", "en"), Query("q2", "alte Bäume", "de")]
    own = [one.ranking.scores.tolist() for one in retriever.rank(queries, mode="hybrid")]
    given_fusion = [
        Retriever(tuned / "index", fusion=name).rank(queries, mode="hybrid")[place].ranking.scores.tolist()
        for place, name in enumerate((english["fusion"], "zscore:0.5"))
    ]
    assert own == given_fusion
    assert command("tune", *given[1:], tuned / "dev.tsv").stdout.startswith("language  queries  fusion")


def test_tune_warns_of_tests_and_of_too_few_queries(command, tuned):
    (tuned / "test.tsv").write_text("q0\td0\t1\n")
    given = ["tune", tuned / "index", "--queries", tuned / "queries.jsonl", "--qrels", tuned / "test.tsv"]
    done = command(*given)
    assert (done.status, done.stdout) == (0, "")
    assert "test.tsv looks like a test, whose scores mean nothing after learning from it." in done.stderr
    assert "No language has 30 judged queries, so nothing was learned." in done.stderr
    assert not (tuned / "index" / "tuning.json").exists()


def test_a_tuned_index_can_be_replaced(command, tuned):
    given = ["tune", tuned / "index", "--queries", tuned / "queries.jsonl", "--qrels", tuned / "dev.tsv"]
    assert command(*given).status == 0
    assert json.loads((tuned / "index" / "tuning.json").read_bytes())["measure"] == "nDCG@10"
    done = command("index", tuned / "corpus.jsonl", tuned / "index", "--no-dense", "--overwrite")
    assert done.status == 0, done.stderr
    assert Retriever(tuned / "index").tuned == {}
