"""The catalogue against what is published: sizes of topics and judgements, and its own consistency."""

import re

import pytest

from mretrieve.datasets.catalogue import Repository, addresses, benchmarks
from mretrieve.languages import normalize_language
from tests.official import SHARED


def test_the_benchmarks_have_their_languages():
    found = benchmarks()
    assert list(found) == ["miracl", "mrtydi", "xquad", "xquad-r"]
    assert len(found["miracl"].languages) == 18 and len(found["mrtydi"].languages) == 11
    assert len(found["xquad"].languages) == 12 and len(found["xquad-r"].languages) == 11
    for benchmark in found.values():
        assert [normalize_language(code) for code in benchmark.languages] == list(benchmark.languages)
        assert benchmark.licence and benchmark.paper.startswith("https://")


def test_sizes_add_up():
    found = benchmarks()
    assert found["miracl"].passages == 106_332_152  # as many as mteb counts
    assert found["xquad-r"].passages == 13_014
    assert found["miracl"].splits == ("dev", "train")
    assert found["mrtydi"].splits == ("test", "dev", "train")


def test_repositories_are_pinned_to_commits():
    for benchmark in benchmarks().values():
        for repository in benchmark.repositories.values():
            # The makers' archives have their version in their names, and their checksums inside.
            pattern = "master" if repository.host == "waterloo" else "[0-9a-f]{40}"
            assert re.fullmatch(pattern, repository.revision)
    assert Repository.parse("github:a/b@c") == Repository("a/b", "c", "github")
    assert Repository.parse("a/b") == Repository("a/b", "main", "hub")


def test_addresses_name_every_split_once():
    found = addresses()
    assert len(found) == len(set(found))
    assert {"miracl/sw", "miracl/sw/dev", "miracl/sw/train", "mrtydi/sw/test", "xquad/th", "xquad-r"} <= set(
        found
    )
    assert "miracl/yo/train" not in found  # a surprise language without a training set


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")
@pytest.mark.parametrize("key", ["miracl", "mrtydi"])
def test_counts_are_those_of_the_description_of_the_data(key):
    readme = (SHARED / "README.md").read_text(encoding="utf-8")
    section = readme.split(f"- `{key}-topics-qrels/`")[1].split("\n- `")[0]
    described = {}
    for kind, split, rest in re.findall(r"  - (topics|qrels) (\w+): (.*)", section):
        for lang, number in re.findall(r"(\w\w) ([\d,]+)", rest):
            described[lang, split, kind] = int(number.replace(",", ""))
    listed = {
        (lang, split, kind): number
        for lang, entry in benchmarks()[key].languages.items()
        for split, counts in entry.splits.items()
        for kind, number in zip(("topics", "qrels"), counts, strict=True)
    }
    assert listed == described
