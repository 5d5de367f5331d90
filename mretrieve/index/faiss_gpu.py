"""FAISS on GPUs: indexes are cut over all that it sees; what has no GPU form stays where it is."""

import logging
from functools import cache
from types import ModuleType
from typing import Any

Device = str
"""`auto`, `cpu` or `cuda`."""

log = logging.getLogger(__name__)


def use_gpus(faiss: ModuleType, device: Device) -> bool:
    """Whether FAISS is to work on GPUs; one line tells where they were asked for and it sees none."""
    if device == "cpu":
        return False
    if getattr(faiss, "get_num_gpus", int)() > 0:
        return True
    if device == "cuda":
        _tell_once(f"FAISS {faiss.__version__} sees no GPU: vectors are indexed and searched on the CPU.")
    return False


def to_gpus(faiss: ModuleType, index: Any, *, device: Device = "auto") -> Any:
    """A copy of an index on all GPUs, each of which holds a part of its vectors; `index` itself where none.

    Candidates of an index with re-scoring are found on the GPUs and scored again on the CPU, so that the
    finer vectors need not fit into the GPUs.
    """
    if not use_gpus(faiss, device):
        return index
    if isinstance(index, faiss.IndexRefine):
        base = faiss.downcast_index(index.base_index)
        on_gpus = to_gpus(faiss, base, device=device)
        if on_gpus is base:
            return index
        refining = faiss.IndexRefine(on_gpus, index.refine_index)
        refining.k_factor = index.k_factor
        refining.referenced_objects = [on_gpus, index]  # what it points to lives as long as itself
        return refining
    options = faiss.GpuMultipleClonerOptions()
    options.shard = True
    try:
        return faiss.index_cpu_to_all_gpus(index, co=options)
    except RuntimeError as error:  # graphs and some codes have no GPU form
        if device == "cuda":
            _tell_once(f"FAISS has no GPU form of this index ({_last(error)}): it is searched on the CPU.")
        return index


def train_on_gpus(faiss: ModuleType, index: Any, *, device: Device = "auto") -> None:
    """Have an index with inverted lists find its centroids on the GPUs, which is most of its training."""
    if not use_gpus(faiss, device):
        return
    try:
        ivf = faiss.extract_index_ivf(index)
        on_gpus = faiss.index_cpu_to_all_gpus(faiss.IndexFlat(ivf.d, ivf.metric_type))
    except RuntimeError:  # without lists there is nothing that GPUs would train
        return
    ivf.clustering_index = on_gpus
    index.trained_with = on_gpus  # FAISS keeps a bare pointer


@cache
def _tell_once(line: str) -> None:
    """An index of several segments, and each of several indexes, would say the same."""
    log.warning(line)


def _last(error: RuntimeError) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[-1][-160:]
