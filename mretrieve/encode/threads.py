"""How many cores one call of a model takes.

A call for a few tokens hardly gains from a second core, since its threads wait for each other after every
layer; two such calls side by side do. So whoever makes several calls at once gives each thread its share.
"""

import os
import sys
import threading

_shares = threading.local()


def cores() -> int:
    """Cores that this process may use: `$OMP_NUM_THREADS`, or else as many as the system gives it."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def share_cores(n_threads: int) -> None:
    """Have torch take `n_threads` cores for what this thread computes from now on.

    A thread that was given no share has what torch gives a new one: what was last set in any other.
    """
    _shares.n_threads = n_threads


def take_share() -> None:
    """Tell torch of this thread's share, if it was given one."""
    n_threads = getattr(_shares, "n_threads", None)
    if n_threads is not None:
        import torch

        torch.set_num_threads(n_threads)
