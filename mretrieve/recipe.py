"""Index recipes: what is needed to build an index again, in one YAML file."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypedDict, Unpack

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mretrieve.errors import InputError
from mretrieve.evaluate.measures import parse_measures
from mretrieve.index.terms import TermsChoice
from mretrieve.types import Mode

Dtype = Literal["auto", "fp32", "bf16", "int8"]


class Choices(TypedDict, total=False):
    """Single choices that go before a recipe, in the words of `mretrieve index`; None chooses nothing."""

    model: str | None
    dtype: Dtype | None
    faiss: str | None
    lang: str | None
    dense: bool | None
    lexical: bool | None
    bm25_terms: TermsChoice | None


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EncoderPart(_Part):
    """The model, and prompts where they differ from its own."""

    model: str = "e5-small"
    revision: str | None = None
    query_prefix: str | None = None
    document_prefix: str | None = None
    dtype: Dtype = "auto"


class FaissPart(_Part):
    """The FAISS factory string, or `auto`."""

    factory: str = "auto"


class Bm25Part(_Part):
    """BM25's parameters (Robertson & Zaragoza, 2009); the defaults of k1 and b are Anserini's.

    `terms` are those of each language's analyzer, as Anserini has them, pieces of a multilingual vocabulary,
    or both; `auto` is what was best for the language (`mretrieve.index.terms`).
    """

    k1: Annotated[float, Field(ge=0)] = 0.9
    b: Annotated[float, Field(ge=0, le=1)] = 0.4
    terms: TermsChoice = "auto"


class FusionPart(_Part):
    """How hybrid search joins the legs: `k` is of `rrf`, `dense_weight` of the sums."""

    method: Literal["rrf", "minmax", "zscore"] = "zscore"
    k: Annotated[float, Field(gt=0)] | None = None
    dense_weight: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _fits_the_method(self) -> Self:
        other = "dense_weight" if self.method == "rrf" else "k"
        if getattr(self, other) is not None:
            raise ValueError(f"{other} is no parameter of {self.method}")
        return self

    def spec(self) -> str:
        """In the form that `Fusion.parse` reads."""
        number = self.k if self.method == "rrf" else self.dense_weight
        return self.method if number is None else f"{self.method}:{number:g}"


class ExpectPart(_Part):
    """Scores that were reached, which `mretrieve reproduce --recipe` compares with those of now.

    Keys besides these are measures; a score is from 0 to 1, or null where it is still to be measured.

    Attributes:
        split: topics and judgements; empty for the one that the collection is published with.
        retriever: `bm25`, `dense` or `hybrid`; by default the most that the index allows.
        tolerance: how far a score of now may be off.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, Annotated[float, Field(ge=0, le=1)] | None] = Field(init=False)

    split: str = ""
    retriever: Mode | None = None
    tolerance: Annotated[float, Field(ge=0)] = 0.0005

    @model_validator(mode="after")
    def _names_measures(self) -> Self:
        known = ", ".join(type(self).model_fields)
        for name in self.__pydantic_extra__:
            try:
                parse_measures([name])
            except InputError as error:
                near = get_close_matches(name, type(self).model_fields, n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise ValueError(f"{name} is neither one of {known}{hint} nor a measure: {error}") from error
        return self

    @property
    def scores(self) -> dict[str, float | None]:
        """Measure, in its usual spelling -> score."""
        return {
            name: self.__pydantic_extra__[given]
            for given in self.__pydantic_extra__
            for name in parse_measures([given])
        }


class Recipe(_Part):
    """An index recipe. `encoder: null` or `bm25: null` leaves that part out.

    `lang` is given to documents whose data name no language; `auto` detects it.
    """

    collection: str | None = None
    lang: str = "auto"
    encoder: EncoderPart | None = EncoderPart()
    faiss: FaissPart = FaissPart()
    bm25: Bm25Part | None = Bm25Part()
    fusion: FusionPart | None = None
    expect: ExpectPart | None = None

    @property
    def asks_for_bm25(self) -> bool:
        """Whether BM25 was asked for by name, and is not only there by default."""
        return self.bm25 is not None and ("bm25" in self.model_fields_set or self.encoder is None)

    def with_choices(self, **choices: Unpack[Choices]) -> "Recipe":
        """The recipe with some choices made otherwise.

        A model of another name loses the revision and the prompts of the one before it.

        Raises:
            InputError: a choice is about the dense part, and there is to be none; or no part is left.
            TypeError: there is no such choice.
        """
        if unknown := choices.keys() - Choices.__annotations__.keys():
            known = ", ".join(Choices.__annotations__)
            raise TypeError(f"There is no choice {', '.join(sorted(unknown))!r}. Choose from: {known}.")
        made: dict[str, Any] = {name: choice for name, choice in choices.items() if choice is not None}
        change: dict[str, Any] = {}
        encoder = self._chosen_encoder(made)
        if encoder is not self.encoder:
            change["encoder"] = encoder
        if "faiss" in made:
            change["faiss"] = FaissPart(factory=made["faiss"])
        if "lang" in made:
            change["lang"] = made["lang"]
        bm25 = self._chosen_bm25(made)
        if "lexical" in made or bm25 is not self.bm25:
            change["bm25"] = bm25
        recipe = self.model_copy(update=change)
        if recipe.encoder is None and recipe.bm25 is None:
            raise InputError(
                "An index needs a dense or a lexical part: leave out --no-dense or --no-lexical "
                "(`encoder: null` or `bm25: null` in a recipe)."
            )
        return recipe

    def _chosen_bm25(self, made: dict[str, Any]) -> Bm25Part | None:
        bm25 = (self.bm25 or Bm25Part()) if made.get("lexical", self.bm25) else None
        terms = made.get("bm25_terms")
        if terms is None:
            return bm25
        if bm25 is None:
            raise InputError(
                f"BM25's terms {terms!r} were chosen for an index without BM25: leave out --bm25-terms, or "
                "let it have BM25."
            )
        return bm25.model_copy(update={"terms": terms})

    def _chosen_encoder(self, made: dict[str, Any]) -> EncoderPart | None:
        encoder = (self.encoder or EncoderPart()) if made.get("dense", self.encoder) else None
        if encoder is None:
            for name in ("model", "dtype", "faiss"):
                if name in made:
                    raise InputError(
                        f"{name} {made[name]!r} was chosen for an index without a dense part: "
                        f"leave out --{name}, or let it have one."
                    )
            return None
        if made.get("model", encoder.model) != encoder.model:
            encoder = EncoderPart(model=made["model"], dtype=encoder.dtype)
        if "dtype" in made:
            encoder = encoder.model_copy(update={"dtype": made["dtype"]})
        return encoder


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        InputError: the file is missing, no YAML, or a key is unknown or has a wrong value; it is named.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"The recipe {path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if content is not None and not isinstance(content, dict):
        raise InputError(f"The recipe {path} should hold keys with values, as `collection: sample`.")
    try:
        return Recipe.model_validate(content or {})
    except ValidationError as error:
        raise InputError(f"The recipe {path}: {_describe(error)}.") from error


def _describe(error: ValidationError) -> str:
    """The first fault in words: `bm25.k2 is not a key of recipes (did you mean k1?); known are k1, b`."""
    fault = error.errors()[0]
    *parents, key = fault["loc"] or ("the file",)
    where = ".".join(map(str, [*parents, key]))
    if fault["type"] == "extra_forbidden":
        known = _known_keys(parents)
        near = get_close_matches(str(key), known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"{where} is not a key of recipes{hint}; known are {', '.join(known)}"
    what = fault["msg"].removeprefix("Value error, ")
    given = fault["input"]
    if isinstance(given, bool) and fault["type"] == "string_type":
        # YAML reads the language code `no` as false.
        return f"{where}: YAML reads this as {str(given).lower()}; put the value in quotes"
    shown = "" if isinstance(given, dict) else f", not {given!r}"
    return f"{where}: {what[:1].lower()}{what[1:]}{shown}"


def _known_keys(parents: list[Any]) -> list[str]:
    parts: dict[str, type[BaseModel]] = {
        "encoder": EncoderPart,
        "faiss": FaissPart,
        "bm25": Bm25Part,
        "fusion": FusionPart,
        "expect": ExpectPart,
    }
    return list((parts[parents[0]] if parents else Recipe).model_fields)
