"""Training recipes: stages with their parameters in one YAML file, checked before anything runs.

A recipe may extend another and change single keys of its stages, so an ablation is a few lines. Relative
paths in it start at the current folder or, where nothing is there, at the recipe's repository.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mretrieve.errors import InputError

_KEYS = ("name", "about", "seed", "expect", "stages", "extends", "override", "without", "add", "smoke")
_NAME = r"^[a-z0-9][a-z0-9._-]*$"


class Part(BaseModel):
    """A part of a recipe: unknown keys are errors, and nothing changes after reading.

    Fields marked `VOLATILE` say how a stage runs and not what it makes; changing them is no new recipe.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


VOLATILE: dict[str, Any] = {"volatile": True}


class Stage(Part):
    """What all stages have. Subclasses add parameters and say which of them are inputs."""

    stage: str
    name: Annotated[str, Field(pattern=_NAME)]
    seed: int | None = None

    def inputs(self) -> list[str]:
        """Stages (`NAME` or `NAME/FILE`), paths and model names that the stage reads."""
        return []

    def settled(self) -> dict[str, Any]:
        """The parameters that decide what the stage makes, as plain values."""
        return _settled(self)


@dataclass(frozen=True)
class Recipe:
    """A recipe with all that it extends put in."""

    path: Path
    name: str
    seed: int
    stages: tuple[Stage, ...]
    about: str = ""
    expect: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The recipe as it runs, defaults included, for the run folder."""
        stages = [stage.model_dump(mode="json") for stage in self.stages]
        return {"name": self.name, "about": self.about, "seed": self.seed, "stages": stages}

    def seed_of(self, stage: Stage) -> int:
        """The stage's own seed, or one made of the recipe's and its name."""
        if stage.seed is not None:
            return stage.seed
        digest = hashlib.sha256(f"{self.seed} {stage.name}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1


def read_training_recipe(
    path: Path | str, *, smoke: bool = False, changes: Mapping[str, Any] | None = None
) -> Recipe:
    """Read and check a recipe.

    Args:
        path: YAML file.
        smoke: apply the recipe's `smoke` overrides: the same stages, a few steps on little data.
        changes: by stage, keys to change after all else, as `override` in a recipe.

    Raises:
        InputError: the file is missing or no YAML, or a key is unknown or has a wrong value; file, stage and
            key are named.
    """
    path = Path(path)
    content = _resolve(path, seen=())
    if smoke:
        _override(content["stages"], content["smoke"], where=f"{path}: smoke")
    _override(content["stages"], changes or {}, where=f"{path}: changes")
    if not content["stages"]:
        raise InputError(f"The recipe {path} has no stages: give at least one under `stages:`.")
    stages = tuple(_read_stage(path, number, stage) for number, stage in enumerate(content["stages"], 1))
    recipe = Recipe(
        path=path,
        name=_scalar(path, content, "name", str, path.stem),
        seed=_scalar(path, content, "seed", int, 13),
        stages=stages,
        about=_scalar(path, content, "about", str, ""),
        expect=content.get("expect"),
    )
    _check_inputs(recipe)
    return recipe


def stage_of(text: str, recipe: Recipe) -> Stage | None:
    """The stage that an input names (`mix` or `mix/model`), or None for paths and model names."""
    name = text.split("/")[0]
    return next((stage for stage in recipe.stages if stage.name == name), None)


def find_path(text: str, recipe: Recipe) -> Path:
    """Where a relative path of a recipe leads, whether or not anything is there."""
    path = Path(text).expanduser()
    beside = recipe.path.resolve().parent.parent / path
    return beside if not path.is_absolute() and not path.exists() and beside.exists() else path


def fingerprint(content: object) -> str:
    """A digest of plain values, the same for equal ones."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _settled(part: BaseModel) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in type(part).model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("volatile"):
            continue
        found[name] = _plain(getattr(part, name))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _settled(value)
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _resolve(path: Path, *, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The content of a recipe with what it extends, as plain values that may be changed."""
    content = _read_yaml(path)
    added: Any = []
    unknown = [key for key in content if key not in _KEYS]
    if unknown:
        raise InputError(f"The recipe {path}: {_unknown_key(str(unknown[0]), _KEYS)}.")
    parent = content.pop("extends", None)
    if parent is not None:
        file = path.parent / str(parent)
        if file.resolve() in seen:
            raise InputError(f"The recipe {path} extends itself by way of {file}.")
        base = _resolve(file, seen=(*seen, path.resolve()))
        added = content.pop("stages", [])
        smoke = base["smoke"] | _mapping(path, content, "smoke")
        content = base | {k: v for k, v in content.items() if k != "smoke"} | {"smoke": smoke}
    stages = _stage_list(path, content.get("stages", []))
    content["smoke"] = _mapping(path, content, "smoke")
    gone = content.pop("without", [])
    _check_names(gone, stages, where=f"{path}: without")
    stages = [stage for stage in stages if stage.get("name") not in gone]
    content["smoke"] = {name: change for name, change in content["smoke"].items() if name not in gone}
    _override(stages, _mapping(path, content, "override"), where=f"{path}: override")
    content.pop("override", None)
    content["stages"] = [*stages, *_stage_list(path, added)]
    return content


def _stage_list(path: Path, stages: Any) -> list[dict[str, Any]]:
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        raise InputError(f"The recipe {path}: stages should be a list, each with `stage:` and `name:`.")
    return stages


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"The recipe {path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise InputError(f"The recipe {path} should hold keys with values, `name:` and `stages:` at least.")
    return content


def _mapping(path: Path, content: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(one, dict) for one in value.values()):
        raise InputError(
            f"The recipe {path}: {key} should hold a stage's name and, under it, keys to change."
        )
    return value


def _override(stages: list[dict[str, Any]], changes: Mapping[str, Any], *, where: str) -> None:
    _check_names(changes, stages, where=where)
    for stage in stages:
        _merge(stage, changes.get(str(stage.get("name")), {}))


def _check_names(names: Any, stages: list[dict[str, Any]], *, where: str) -> None:
    known = [str(stage.get("name")) for stage in stages]
    for name in names:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise InputError(f"The recipe {where}: there is no stage '{name}'{hint}; it has {_list(known)}.")


def _merge(target: dict[str, Any], change: Mapping[str, Any]) -> None:
    """Put `change` into `target`, key by key at every depth; null removes what has keys of its own."""
    for key, value in change.items():
        if value is None and isinstance(target.get(key), dict):
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value


def _read_stage(path: Path, number: int, content: dict[str, Any]) -> Stage:
    from mretrieve.train.stages import STAGES

    kind, name = content.get("stage"), content.get("name", f"number {number}")
    if kind not in STAGES:
        near = get_close_matches(str(kind), STAGES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(
            f"The recipe {path}: stage '{name}' is of the unknown kind {kind!r}.{hint} "
            f"Known are {_list(STAGES)}."
        )
    try:
        return STAGES[kind].parameters.model_validate(content)
    except ValidationError as error:
        fault = _describe(STAGES[kind].parameters, error)
        raise InputError(f"The recipe {path}: stage '{name}' ({kind}): {fault}.") from error


def _scalar(path: Path, content: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = content.get(key, default)
    if type(value) is not kind:
        raise InputError(f"The recipe {path}: {key} should be of type {kind.__name__}, not {value!r}.")
    return value


def _check_inputs(recipe: Recipe) -> None:
    """Names are used once, and a stage's inputs are stages before it, or exist."""
    done: set[str] = set()
    for stage in recipe.stages:
        if stage.name in done:
            raise InputError(f"The recipe {recipe.path}: two stages have the name '{stage.name}'.")
        for text in stage.inputs():
            other = stage_of(text, recipe)
            if other is not None and other.name not in done:
                raise InputError(
                    f"The recipe {recipe.path}: stage '{stage.name}' reads '{text}', which a stage makes "
                    "that does not come before it."
                )
        done.add(stage.name)


def _describe(kind: type[BaseModel], error: ValidationError) -> str:
    """The first fault in words: `objectives.align.wieght is not a key here (did you mean weight?)`."""
    fault = error.errors()[0]
    place = [str(key) for key in fault["loc"]]
    where = ".".join(place) or "the stage"
    if fault["type"] == "extra_forbidden":
        return _unknown_key(where, sorted(_known_keys(kind, list(fault["loc"][:-1]))))
    given = fault["input"]
    if isinstance(given, bool) and fault["type"] == "string_type":
        return f"{where}: YAML reads this as {str(given).lower()}; put the value in quotes"
    what = fault["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(given, dict) else f", not {given!r}"
    return f"{where}: {what[:1].lower()}{what[1:]}{shown}"


def _unknown_key(where: str, known: Any) -> str:
    near = get_close_matches(where.rsplit(".", 1)[-1], [str(key) for key in known], n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{where} is not a key here{hint}; known are {_list(known)}"


def _known_keys(kind: type[BaseModel], parents: list[Any]) -> set[str]:
    """The keys of the models that a place in a stage may hold."""
    models = {kind}
    for parent in parents:
        found: set[type[BaseModel]] = set()
        for model in models:
            field = model.model_fields.get(str(parent))
            if field is not None:
                found |= _models_in(field.annotation)
        models = found or models
    return {key for model in models for key in model.model_fields}


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    if get_origin(annotation) in (Union, UnionType, Annotated, dict, list, tuple):
        return set().union(*(_models_in(part) for part in get_args(annotation)))
    return set()


def _list(names: Any) -> str:
    return ", ".join(map(str, names))
