"""Index recipes: what is needed to build an index again, in one YAML file."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mretrieve.errors import InputError


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EncoderPart(_Part):
    """The model, and prompts where they differ from its own."""

    model: str = "e5-small"
    revision: str | None = None
    query_prefix: str | None = None
    document_prefix: str | None = None
    dtype: Literal["auto", "fp32", "bf16", "int8"] = "auto"


class FaissPart(_Part):
    """The FAISS factory string, or `auto`."""

    factory: str = "auto"


class Bm25Part(_Part):
    """BM25's parameters (Robertson & Zaragoza, 2009); the defaults are Anserini's."""

    k1: Annotated[float, Field(ge=0)] = 0.9
    b: Annotated[float, Field(ge=0, le=1)] = 0.4


class FusionPart(_Part):
    """How hybrid search joins the legs: `k` is of `rrf`, `dense_weight` of the sums."""

    method: Literal["rrf", "minmax", "zscore"] = "rrf"
    k: Annotated[float, Field(gt=0)] | None = None
    dense_weight: Annotated[float, Field(ge=0, le=1)] | None = None

    def spec(self) -> str:
        """In the form that `Fusion.parse` reads."""
        number = self.k if self.method == "rrf" else self.dense_weight
        return self.method if number is None else f"{self.method}:{number:g}"


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
    try:
        return Recipe.model_validate(content if content is not None else {})
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        what = "is not a key of recipes" if fault["type"] == "extra_forbidden" else fault["msg"].lower()
        raise InputError(f"The recipe {path}: {where}: {what}. See indexes/sample.yaml for one.") from error
