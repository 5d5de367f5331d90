"""A smaller model for a few languages: experts that they use, pieces that they are written with.

Nothing is trained. What is dropped is measured: size, speed, and how well translations are found, in the
languages kept and in others.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mretrieve.errors import InputError
from mretrieve.files import new_folder, refuse_used_folder
from mretrieve.languages import normalize_language
from mretrieve.models.nomic_files import save_nomic_moe
from mretrieve.models.nomic_moe import NomicMoEModel
from mretrieve.models.weights import read_json
from mretrieve.understand.parallel import read_parallel
from mretrieve.understand.prune import check_number, choose_experts, prune_experts
from mretrieve.understand.quality import LanguageQuality, Progress, Speed, measure_quality, measure_speed
from mretrieve.understand.running import TextModel
from mretrieve.understand.sample import Sample, read_sample
from mretrieve.understand.statistics import RoutingStatistics, routing_statistics
from mretrieve.understand.trim import check_vocabulary, choose_pieces, trim_embeddings, trim_tokenizer

REPORT = "extract.json"

OTHERS = ("en", "de", "es", "ru", "ar", "hi", "zh", "ja", "sw")
"""Languages that a report tests beside the kept ones, where nobody names others and the data has them."""

_EXPERT_TEXTS = 512
"""Texts per language from which experts are chosen; more do not change the choice."""

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class ExtractPlan:
    """What to make of a model.

    Attributes:
        langs: languages to keep, by code; English is one only if it is named.
        texts: where text of these languages is, see `read_sample`; the vocabulary is what occurs there, so
            the more the better.
        experts: experts to keep in each layer; all of them without it.
        trim_vocab: whether to drop the pieces that the languages' text does not use.
        test: parallel text on which to compare the models; better not a file of `texts`. None for no test.
        test_langs: languages to test beside the kept ones; `OTHERS` without them.
        limit: rows of each file of `texts` to read at most.
        test_limit: rows of `test` to use at most.
    """

    langs: Sequence[str]
    texts: Sequence[Path | str]
    experts: int | None = None
    trim_vocab: bool = False
    test: Path | None = None
    test_langs: Sequence[str] | None = None
    limit: int | None = None
    test_limit: int | None = None


@dataclass(frozen=True)
class Size:
    """How large a model is; `weight_bytes` and `tokenizer_bytes` are those of its files."""

    parameters: int
    embedding_parameters: int
    vocabulary: int
    experts: int
    weight_bytes: int
    tokenizer_bytes: int


@dataclass(frozen=True)
class ExtractReport:
    """What was made, and what it cost.

    Attributes:
        model: the old model as given.
        langs: codes of the languages kept.
        before: size of the old model.
        after: size of the new one.
        experts: numbers of the experts kept, for each layer that has experts; None where all were.
        slots_kept: the part of all slots on the languages' text that went to experts kept, for each of
            these layers; None where all were kept.
        speed: texts per second.
        quality: one entry per language tested, empty where nothing was.
    """

    model: str
    langs: tuple[str, ...]
    before: Size
    after: Size
    experts: dict[int, list[int]] | None
    slots_kept: dict[int, float] | None
    speed: Speed
    quality: tuple[LanguageQuality, ...]

    def to_dict(self) -> dict[str, Any]:
        """What `extract.json` holds."""
        speed = {
            "texts_per_second_before": round(self.speed.before, 2),
            "texts_per_second_after": round(self.speed.after, 2),
            "ratio": round(self.speed.ratio, 3),
        }
        content = asdict(self) | {"langs": list(self.langs), "speed": speed}
        content["quality"] = [
            {name: round(value, 4) if type(value) is float else value for name, value in asdict(one).items()}
            for one in self.quality
        ]
        return {"format": "mretrieve extract 1"} | content


def extract(
    model: Path | str, out: Path, plan: ExtractPlan, *, on_progress: Progress | None = None
) -> ExtractReport:
    """Make a model for a few languages out of one for many.

    Args:
        model: folder of a NomicMoE in our layout or the official one, or its hub id; for trimming also a
            BERT-like encoder, which becomes a NomicMoE without experts.
        out: sentence-transformers folder to make, with `extract.json` in it.
        plan: what to keep.
        on_progress: called with what is done, how much, and of how much.

    Returns:
        What `extract.json` holds.

    Raises:
        InputError: the plan, the model or the data cannot be used.
    """
    refuse_used_folder(out)
    langs = _check_plan(plan)
    runner = TextModel(model)
    runner.check_pooling()
    if plan.experts is not None:
        check_number(plan.experts, runner.model.sizes)
    if plan.trim_vocab:
        check_vocabulary(runner.checkpoint.folder)
    sample = read_sample(plan.texts, plan.langs, limit=plan.limit)
    smaller, kept, slots = runner.model, None, None
    if plan.experts is not None:
        smaller, kept, slots = _prune(runner, sample, plan.experts, on_progress)
    with new_folder(out) as folder:
        _save(runner, smaller, folder, sample if plan.trim_vocab else None)
        new = TextModel(folder)
        texts = [text for row in zip(*sample.values(), strict=False) for text in row]
        report = ExtractReport(
            model=str(model),
            langs=langs,
            before=_size(runner),
            after=_size(new),
            experts=kept,
            slots_kept=slots,
            speed=measure_speed(runner, new, texts, lang=langs[0] if len(langs) == 1 else ""),
            quality=tuple(_test(runner, new, plan, langs, on_progress)),
        )
        content = json.dumps(report.to_dict(), ensure_ascii=False, indent=1) + "\n"
        (folder / REPORT).write_text(content, encoding="utf-8")
    return report


def _check_plan(plan: ExtractPlan) -> tuple[str, ...]:
    """The languages' codes."""
    if not plan.langs:
        raise InputError("Name the languages to keep, as in --langs de,fr.")
    if plan.experts is None and not plan.trim_vocab:
        raise InputError("Say what to drop: give a number of experts to keep, or trim the vocabulary.")
    if not plan.texts:
        raise InputError("Give text of these languages with --data, by which experts and pieces are chosen.")
    langs = tuple(dict.fromkeys(normalize_language(code) for code in plan.langs))
    if plan.test is not None:  # found out now, not after minutes of work
        first = 1 if plan.test_limit is None else min(plan.test_limit, 1)
        read_parallel(plan.test, langs=[*plan.langs, *(plan.test_langs or ())], limit=first)
    return langs


def _prune(
    runner: TextModel, sample: Sample, n_experts: int, on_progress: Progress | None
) -> tuple[NomicMoEModel, dict[int, list[int]], dict[int, float]]:
    """The model with fewer experts, which they are, and how much of the routing went to them."""
    chosen = {lang: texts[:: -(-len(texts) // _EXPERT_TEXTS)] for lang, texts in sample.items()}
    done, total = 0, sum(map(len, chosen.values()))

    def on_texts(n: int) -> None:
        nonlocal done
        done += n
        if on_progress is not None:
            on_progress("choosing experts", done, total)

    found: list[RoutingStatistics] = [
        routing_statistics(runner, texts, lang=lang, keep_logits=True, on_texts=on_texts)
        for lang, texts in chosen.items()
    ]
    kept = choose_experts(found, n_experts, runner.model.sizes)
    layers = runner.model.sizes.moe_layers
    logits = [torch.cat([part for one in found for part in one.logits[i]]) for i in range(len(layers))]
    slots = np.sum([one.slots for one in found], axis=0)
    shares = {
        layer: round(float(slots[i][kept[i]].sum() / slots[i].sum()), 4) for i, layer in enumerate(layers)
    }
    smaller = prune_experts(runner.model, kept, logits=logits)
    return smaller, dict(zip(layers, kept, strict=True)), shares


def _save(runner: TextModel, model: NomicMoEModel, folder: Path, trim_for: Sample | None) -> None:
    """Write the model, with the vocabulary that the sample needs if there is one."""
    source = runner.checkpoint.folder
    settings = read_json(source / "config_sentence_transformers.json")
    prefixes = {"query": runner.checkpoint.query_prefix, "passage": runner.checkpoint.document_prefix}
    prompts: Mapping[str, str] = settings.get("prompts") or {k: v for k, v in prefixes.items() if v}
    with tempfile.TemporaryDirectory() as temporary:
        if trim_for is not None:
            texts = [text for texts in trim_for.values() for text in texts]
            kept = choose_pieces(runner.checkpoint, texts)
            trim_tokenizer(source, Path(temporary), kept)
            source, model = Path(temporary), trim_embeddings(model, kept)
        content = runner.checkpoint.config
        dtype = _DTYPES.get(str(content.get("dtype") or content.get("torch_dtype")), torch.float32)
        save_nomic_moe(
            model.to(dtype),  # type: ignore[arg-type]
            folder,
            tokenizer=source,
            prompts=prompts,
            max_length=runner.checkpoint.max_length,
        )


def _size(runner: TextModel) -> Size:
    model, folder = runner.model, runner.checkpoint.folder
    tokenizer = [*folder.glob("tokenizer.json"), *folder.glob("unigram.*"), *folder.glob("*.model")]
    return Size(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        embedding_parameters=model.get_input_embeddings().weight.numel(),
        vocabulary=model.sizes.vocab_size,
        experts=model.sizes.num_experts,
        weight_bytes=sum(file.stat().st_size for file in folder.glob("*.safetensors")),
        tokenizer_bytes=sum(file.stat().st_size for file in tokenizer),
    )


def _test(
    before: TextModel,
    after: TextModel,
    plan: ExtractPlan,
    langs: Sequence[str],
    on_progress: Progress | None,
) -> list[LanguageQuality]:
    if plan.test is None:
        return []
    others: Sequence[str]
    if plan.test_langs is None:
        available = set(read_parallel(plan.test, limit=1).languages)
        others = [code for code in OTHERS if code in available]
    else:
        others = plan.test_langs
    text = read_parallel(plan.test, langs=[*plan.langs, *others], limit=plan.test_limit)
    return measure_quality(before, after, text, kept=langs, on_progress=on_progress)
