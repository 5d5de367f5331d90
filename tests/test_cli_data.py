import pytest

from mretrieve.datasets.catalogue import benchmarks
from tests.hub import serving
from tests.official import of_sample, write_beir, write_miracl, write_mrtydi


@pytest.fixture(autouse=True)
def set_up(tmp_path, monkeypatch):
    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def root(tmp_path):
    for lang in ("ar", "th"):
        write_miracl(tmp_path / "root", of_sample(lang))
    return write_mrtydi(tmp_path / "root", of_sample("th"))


def test_collections_are_listed(command):
    done = command("datasets")
    assert done.status == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == list(benchmarks())
    assert "106,332,152" in done.stdout and "Apache-2.0; passages CC BY-SA" in done.stdout
    assert "hf:REPO" in done.stderr


def test_languages_of_a_collection_are_listed(command):
    done = command("datasets", "miracl")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["miracl/sw", "sw", "131,924", "482", "1,901"] in lines
    assert ["miracl/yo", "yo", "49,043", "119"] in lines
    assert "https://doi.org/10.1162/tacl_a_00595" in done.stdout


def test_the_list_for_programs(command):
    found = {entry["collection"]: entry for entry in command("datasets", "--json").json}
    assert found["mrtydi"]["languages"]["sw"]["splits"]["test"] == {"topics": 670, "judgements": 743}
    assert command("datasets", "miralc").status == 2


def test_a_download_tells_what_came(command, root, monkeypatch, tmp_path):
    (root / "castorini").rename(tmp_path / "castorini")
    hub = tmp_path / "hub"
    write_mrtydi(hub, of_sample("th"))
    with serving(hub) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        done = command("download", "mrtydi/th/test")
        assert done.status == 0
        assert done.stderr.startswith("mrtydi/th/test: 3 files, ")
        again = command("download", "mrtydi/th/test")
        assert again.status == 0 and len(served.requests) == 3


def test_a_download_without_a_connection_is_one_sentence(command, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = command("download", "miracl/sw")
    assert done.status == 2
    assert done.stderr.startswith("Error: The hub http://127.0.0.1:9 cannot be reached")
    assert "Traceback" not in done.stderr


def test_an_unknown_address_names_near_ones(command):
    done = command("reproduce", "miralc/sw/dev")
    assert (done.status, done.stdout) == (2, "")
    assert "Did you mean miracl/sw/dev" in done.stderr


def test_offline_it_is_told_what_to_put_where(command, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = command("reproduce", "miracl/sw", "--out", tmp_path / "out")
    assert done.status == 2
    assert f"put these files into {tmp_path / 'cache' / 'datasets'}" in done.stderr


def test_archives_are_of_mr_tydi_only(command):
    done = command("download", "miracl/sw", "--archive")
    assert done.status == 2 and "fetch miracl/sw without --archive" in done.stderr


def test_a_reproduction_prints_the_comparison(command, root, tmp_path):
    done = command("reproduce", "miracl/ar", "--root", root, "--out", tmp_path / "out")
    assert done.status == 0
    header, ndcg, recall = done.stdout.splitlines()
    assert header.split() == "collection system measure measured published difference verdict".split()
    assert ndcg.split()[:3] == ["miracl/ar/dev", "bm25", "nDCG@10"]
    assert ndcg.split()[4] == "0.4809" and ndcg.endswith("not comparable")
    assert "bm25: published is BM25 (pyserini" in done.stderr
    assert "miracl/ar holds 25 passages here, and 2,061,414 as published" in done.stderr


def test_retrievers_of_a_folder_for_programs(command, tmp_path, model):
    folder = write_beir(tmp_path / "beir", of_sample("en"))
    done = command(
        "reproduce", f"beir:{folder}", "--retriever", "bm25,dense",
        "--model", model, "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.status == 0
    assert [(one["retriever"], one["compared_with"]) for one in done.json] == [("bm25", ""), ("dense", "")]
    assert {score["verdict"] for score in done.json[0]["scores"]} == {"nothing published"}


def test_all_writes_tables_and_plots(command, root, tmp_path):
    out = tmp_path / "out"
    done = command("reproduce", "--all", "--root", root, "--out", out)
    assert done.status == 0
    assert len(done.stdout.splitlines()) == 1 + 3 * 2
    assert "miracl/yo is left out: " in done.stderr and f"{out / 'table.md'}: written" in done.stderr
    assert "Left out for the like reason: miracl/sw, miracl/bn, " in done.stderr
    assert len(done.stderr) < 4000
    assert "| **mretrieve bm25** |" in (out / "table.md").read_text(encoding="utf-8")
    plots = sorted(path.name for path in (out / "plots").iterdir())
    assert plots == ["miracl-dev-ar.png", "miracl-dev-th.png", "mrtydi-test-th.png"]


def test_all_of_one_benchmark(command, root, tmp_path):
    done = command("reproduce", "mrtydi", "--all", "--root", root, "--out", tmp_path / "out", "--json")
    assert [one["address"] for one in done.json] == ["mrtydi/th"]


def test_nothing_to_reproduce_is_told(command, tmp_path):
    done = command("reproduce", "--out", tmp_path / "out")
    assert done.status == 2 and "give --all" in done.stderr


def test_an_unknown_retriever_is_told(command):
    done = command("reproduce", "miracl/sw", "--retriever", "bm25,sparse")
    assert done.status == 2 and "no retriever 'sparse'. Choose from: hybrid, dense, bm25" in done.stderr
