"""The change of gear: what is ready at once, and what is faster once a lot of text has come."""

import logging
import threading
from collections.abc import Callable

from mretrieve.encode.choose import BULK_TOKENS

logger = logging.getLogger(__name__)


class GearChange:
    """Loads the gear for much text in the background, once, when that much text has come.

    Args:
        load: loads it and puts it in place. Where it fails, the first gear goes on.
        name: of the model, for messages.
        daemon: whether the process may end while it is still loading. torch does not always survive that,
            so only for those that are told to end quickly.
    """

    def __init__(self, load: Callable[[], None], *, name: str, daemon: bool = False) -> None:
        self._load = load
        self._name = name
        self._daemon = daemon
        self._read = 0
        self._thread: threading.Thread | None = None

    @property
    def has_begun(self) -> bool:
        """Whether as much text has come."""
        return self._thread is not None

    def note(self, n_tokens: int) -> None:
        """Say that so much text has come; enough of it starts the change."""
        self._read += n_tokens
        if self._read >= BULK_TOKENS and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="mretrieve-gear", daemon=self._daemon)
            self._thread.start()

    def wait(self) -> None:
        """Wait until a change that has begun is over."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._load()
        except Exception as error:
            logger.warning("%s goes on in its first gear: %s", self._name, type(error).__name__)
            return
        logger.debug("%s has changed gear", self._name)
