"""NomicMoE in plain torch: on GPUs, and on the CPU with routers that the faster backends do not know."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mretrieve.models.nomic_files import load_nomic_moe


class PackedNomic:
    """A NomicMoE encoder without padding."""

    def __init__(self, folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self._model = load_nomic_moe(folder, device=device, dtype=dtype)

    def hidden_states(self, batch: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Last hidden states of all tokens, text after text.

        Args:
            batch: token ids of each text, (length,) int32. Texts of equal length should be neighbours.

        Returns:
            (n_tokens, hidden) float32.
        """
        ids = torch.from_numpy(np.concatenate(batch)).to(self._model.device, torch.long)
        with torch.inference_mode():
            output = self._model.forward_packed(ids, [len(one) for one in batch])
        assert output.last_hidden_state is not None
        hidden: NDArray[np.float32] = output.last_hidden_state.float().cpu().numpy()
        return hidden
