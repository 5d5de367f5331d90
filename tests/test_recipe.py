from pathlib import Path

import pytest

from mretrieve.errors import InputError
from mretrieve.rank.fusion import Fusion
from mretrieve.recipe import Bm25Part, EncoderPart, ExpectPart, FaissPart, FusionPart, Recipe, read_recipe

ROOT = Path(__file__).resolve().parent.parent


def write(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "indexes").glob("*.yaml")), ids=lambda path: path.name)
def test_every_index_recipe_of_the_repository_can_be_read(path):
    recipe = read_recipe(path)
    assert recipe.collection
    assert recipe.encoder is not None or recipe.bm25 is not None


def test_all_parts(tmp_path):
    recipe = read_recipe(
        write(
            tmp_path,
            """
            collection: miracl/sw
            lang: sw
            encoder: {model: a/b, revision: abc, query_prefix: "q: ", document_prefix: "", dtype: fp32}
            faiss: {factory: HNSW32}
            bm25: {k1: 1.2, b: 0.75, terms: both}
            fusion: {method: zscore, dense_weight: 0.7}
            expect: {split: dev, retriever: bm25, nDCG@10: 0.5, tolerance: 0.01}
            """,
        )
    )
    assert recipe == Recipe(
        collection="miracl/sw",
        lang="sw",
        encoder=EncoderPart(
            model="a/b", revision="abc", query_prefix="q: ", document_prefix="", dtype="fp32"
        ),
        faiss=FaissPart(factory="HNSW32"),
        bm25=Bm25Part(k1=1.2, b=0.75, terms="both"),
        fusion=FusionPart(method="zscore", dense_weight=0.7),
        expect=ExpectPart(**{"split": "dev", "retriever": "bm25", "nDCG@10": 0.5, "tolerance": 0.01}),
    )


def test_what_is_left_out_has_defaults(tmp_path):
    recipe = read_recipe(write(tmp_path, "# nothing\n"))
    assert recipe == Recipe()
    assert (recipe.encoder.model, recipe.faiss.factory, recipe.bm25.k1, recipe.lang) == (
        "e5-small",
        "auto",
        0.9,
        "auto",
    )
    assert read_recipe(write(tmp_path, "bm25: null")).bm25 is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "encodr: {}",
            "encodr is not a key of recipes (did you mean encoder?); known are collection, lang, ",
        ),
        (
            "encoder: {modle: x}",
            "encoder.modle is not a key of recipes (did you mean model?); known are model",
        ),
        (
            "expect: {tolerence: 0.1}",
            "expect: tolerence is neither one of split, retriever, tolerance (did you mean tolerance?) nor a "
            "measure: There is no measure 'tolerence'.",
        ),
        ("expect: {nDCG@10: 51.3}", "expect.nDCG@10: input should be less than or equal to 1, not 51.3"),
        ("expect: {nDCG@10: high}", "expect.nDCG@10: input should be a valid number"),
        ("expect: {tolerance: -1}", "expect.tolerance: input should be greater than or equal to 0, not -1"),
        (
            "expect: {retriever: both}",
            "expect.retriever: input should be 'hybrid', 'dense' or 'bm25', not 'both'",
        ),
        (
            "bm25: {terms: words}",
            "bm25.terms: input should be 'auto', 'analyzer', 'pieces' or 'both', not 'words'",
        ),
        ("lang: no", "lang: YAML reads this as false; put the value in quotes"),
        ("bm25: {k1: -1}", "bm25.k1: input should be greater than or equal to 0, not -1"),
        ("bm25: {b: 1.5}", "bm25.b: input should be less than or equal to 1, not 1.5"),
        ("bm25: {k1: .inf}", "bm25.k1: input should be a finite number, not inf"),
        ("bm25: 3", "bm25: input should be a valid dictionary"),
        (
            "encoder: {dtype: fp64}",
            "encoder.dtype: input should be 'auto', 'fp32', 'bf16' or 'int8', not 'fp64'",
        ),
        ("fusion: {method: max}", "fusion.method: input should be 'rrf', 'minmax' or 'zscore', not 'max'"),
        ("fusion: {method: rrf, dense_weight: 0.5}", "fusion: dense_weight is no parameter of rrf"),
        ("fusion: {method: minmax, k: 60}", "fusion: k is no parameter of minmax"),
    ],
)
def test_faults_are_named(tmp_path, text, fault):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as error:
        read_recipe(path)
    assert str(error.value).startswith(f"The recipe {path}: {fault}")


def test_expected_scores(tmp_path):
    expect = read_recipe(
        write(tmp_path, "expect: {split: dev, ndcg@10: 0.5, R@100: null, MRR@100: 1}")
    ).expect
    assert (expect.split, expect.retriever, expect.tolerance) == ("dev", None, 0.0005)
    assert expect.scores == {"nDCG@10": 0.5, "R@100": None, "MRR@100": 1.0}
    assert read_recipe(write(tmp_path, "expect: {}")).expect.scores == {}
    assert read_recipe(write(tmp_path, "lang: sw")).expect is None


@pytest.mark.parametrize("text", ["- a\n- b", "just a text", "3"])
def test_a_recipe_holds_keys(tmp_path, text):
    with pytest.raises(InputError, match="should hold keys with values"):
        read_recipe(write(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file or directory"):
        read_recipe(tmp_path / "no.yaml")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_recipe(tmp_path)
    with pytest.raises(InputError, match=r"not valid YAML: mapping values .* line 1, column 5"):
        read_recipe(write(tmp_path, "a: b: c"))
    (tmp_path / "latin.yaml").write_bytes(b"collection: caf\xe9")
    with pytest.raises(InputError, match="not valid YAML: .*0xe9"):
        read_recipe(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("part", "spec"),
    [
        (FusionPart(method="rrf"), "rrf"),
        (FusionPart(method="rrf", k=20), "rrf:20"),
        (FusionPart(method="minmax", dense_weight=0.25), "minmax:0.25"),
        (FusionPart(method="zscore", dense_weight=0), "zscore:0"),
    ],
)
def test_fusion_in_the_form_that_is_parsed(part, spec):
    assert part.spec() == spec
    fusion = Fusion.parse(spec)
    assert fusion.method == part.method
    given = part.k if part.method == "rrf" else part.dense_weight
    assert given in (None, fusion.parameter)


def test_choices_go_before_the_recipe():
    recipe = Recipe(encoder=EncoderPart(model="a", revision="r", query_prefix="q", dtype="bf16"), lang="de")
    chosen = recipe.with_choices(model="b", faiss="Flat", lang="sw", lexical=False)
    assert chosen.encoder == EncoderPart(model="b", dtype="bf16")  # not the prompts of another model
    assert (chosen.faiss.factory, chosen.lang, chosen.bm25) == ("Flat", "sw", None)
    assert recipe.with_choices(model="a", dtype="fp32").encoder == EncoderPart(
        model="a", revision="r", query_prefix="q", dtype="fp32"
    )
    assert recipe.with_choices() == recipe.with_choices(model=None, lexical=None) == recipe


def test_parts_that_the_recipe_leaves_out_can_be_chosen():
    recipe = Recipe(encoder=None)
    assert recipe.with_choices(dense=True).encoder == EncoderPart()
    assert recipe.with_choices(dense=True, model="b").encoder == EncoderPart(model="b")
    assert Recipe(bm25=None).with_choices(lexical=True).bm25 == Bm25Part()
    assert Recipe(bm25=Bm25Part(k1=2)).with_choices(lexical=True).bm25 == Bm25Part(k1=2)


def test_terms_of_bm25_can_be_chosen():
    chosen = Recipe(bm25=Bm25Part(k1=2)).with_choices(bm25_terms="pieces")
    assert chosen.bm25 == Bm25Part(k1=2, terms="pieces") and chosen.asks_for_bm25
    assert Recipe(bm25=None).with_choices(lexical=True, bm25_terms="both").bm25 == Bm25Part(terms="both")
    assert Recipe().bm25.terms == "auto"


@pytest.mark.parametrize(
    ("recipe", "choices", "fault"),
    [
        (Recipe(encoder=None), {"model": "b"}, "model 'b' was chosen for an index without a dense part"),
        (Recipe(), {"dense": False, "faiss": "Flat"}, "faiss 'Flat' was chosen for an index without a dense"),
        (Recipe(), {"dense": False, "lexical": False}, "An index needs a dense or a lexical part"),
        (Recipe(), {"lexical": False, "bm25_terms": "both"}, "terms 'both' were chosen for an index without"),
        (Recipe(bm25=None), {"bm25_terms": "both"}, "leave out --bm25-terms, or let it have BM25"),
        (Recipe(encoder=None, bm25=None), {}, "An index needs a dense or a lexical part"),
    ],
)
def test_choices_that_exclude_each_other(recipe, choices, fault):
    with pytest.raises(InputError, match=fault):
        recipe.with_choices(**choices)


def test_an_unknown_choice_is_a_mistake_of_the_program():
    with pytest.raises(TypeError, match="There is no choice 'modle'. Choose from: model, dtype, faiss"):
        Recipe().with_choices(modle="b")


@pytest.mark.parametrize(
    ("recipe", "asked"),
    [
        (Recipe(), False),
        (Recipe().with_choices(lexical=True), True),
        (Recipe(bm25=Bm25Part()), True),
        (Recipe(encoder=None), True),
        (Recipe().with_choices(dense=False), True),
        (Recipe(bm25=None), False),
    ],
)
def test_bm25_is_asked_for_by_name_or_as_the_only_part(recipe, asked):
    assert recipe.asks_for_bm25 is asked
