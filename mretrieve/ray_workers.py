"""Encode on many workers, which Ray starts on this machine or on a cluster.

The build stays one process, which reads, stores and indexes; Ray only makes vectors of texts. Its plain
actors do that, not Ray Data: each finished shard is on the disk at once, so that a stopped build goes on;
nobody holds more than two shards per worker; and the machines need no folder that they share. A worker that
ends, whatever the reason, is replaced, and its shards go to those that are left.

A Ray cluster runs any code for who can reach it: keep its ports in a network that you trust. A cluster that
is started here listens to this machine alone.
"""

import importlib
import logging
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.index.manifest import EncoderIdentity
from mretrieve.ray_pool import Job, RayEncoding, reason_of

LOCAL = "local"
"""The address that stands for workers on this machine alone."""

CORES = 4
"""CPU cores per worker, at most, where nothing else is asked for."""

CONNECT_SECONDS = 5.0
TEMPORARY_NAME = 20  # characters of the folder for temporary files, at most: names of sockets are short
OBJECT_STORE_BYTES = 256 * 2**20  # of texts and vectors on their way; more of them goes to the disk

# Ray reads these when it is imported and when it starts. It writes news of its own to stdout, which is ours.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_OWN = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listens to this machine alone, on Linux too
    "RAY_worker_niceness": "0",  # workers are the whole work here, not guests
}
_OTHER = {"RAY_gcs_server_request_timeout_seconds": "15"}  # instead of a minute

_RAYS = re.compile("ray|gcs_server")  # names of Ray's processes, of which Linux keeps 15 letters
_HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4  # the kind of the frame that an HTTP/2 server, as gRPC's, sends first


class RayWorkers:
    """A connection to Ray, to be given to `build_index` as its device; closed by `with`.

    Args:
        address: `local` for workers on this machine, `auto` for the cluster that this machine belongs to,
            `HOST:PORT` of a cluster, or `ray://HOST:PORT` for one that this machine does not belong to.
        device: `auto` (GPUs if the cluster has some), `cpu` or `cuda`.
        cores: CPU cores per worker; by default up to 4, and such that there are two workers at least. On a
            GPU each worker has one to itself.

    Raises:
        InputError: the address or the number of cores is none.
    """

    def __init__(self, address: str = LOCAL, *, device: str = "auto", cores: int | None = None) -> None:
        if cores is not None and cores < 1:
            raise InputError(f"A worker needs one CPU core at least, not {cores}.")
        self.address = address
        self.host_port = _host_and_port(address)
        self.cores = cores
        self._asked, self._folder = device, ""
        self._ray: Any = None
        self._is_mine = False
        self._on_sigterm: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> str:
        """Reach the cluster, or start one; the second time nothing happens.

        Returns:
            `cpu` or `cuda`: where its workers will run.

        Raises:
            InputError: nothing of Ray answers at the address, or the cluster lacks what was asked for.
            MissingDependencyError: Ray is not installed.
        """
        if self._ray is None:
            if self.host_port is not None:
                _check_answer(self.address, *self.host_port)
            with _environment(_QUIET | (_OWN if self.address == LOCAL else _OTHER)):
                self._ray = _import_ray()
                self._start()
        n_gpus = self._count("GPU", 1)
        if self._asked == "cuda" and not n_gpus:
            raise InputError(f"Ray's cluster ({self.address}) has no GPU. Use --device cpu.")
        return "cuda" if n_gpus and self._asked != "cpu" else "cpu"

    def close(self) -> None:
        """Let go of the cluster; one that was started here ends."""
        if self._ray is not None and self._is_mine:
            started = _descendants(os.getpid()) if self.address == LOCAL else {}
            self._ray.shutdown()
            _end(started)
            if self._on_sigterm is not None:
                signal.signal(signal.SIGTERM, self._on_sigterm)
        self._ray = None
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    def encoding(self, encoder: EncoderIdentity, n_tokens: int) -> RayEncoding:
        """A way to encode the documents of one build.

        Args:
            encoder: what the index will say of its model.
            n_tokens: of all documents, about.

        Raises:
            InputError: no machine has room for a worker.
        """
        job = Job(encoder, self.connect(), n_tokens)
        return RayEncoding(self._ray, job, *self._room(job.device))

    def _room(self, device: str) -> tuple[int, dict[str, int]]:
        """How many workers the cluster has room for, and what Ray sets aside for each."""
        if device == "cuda":
            return self._count("GPU", 1), {"num_gpus": 1, "num_cpus": self.cores or 1}
        cores = self.cores or max(1, min(CORES, self._most("CPU") // 2))
        n_workers = self._count("CPU", cores)
        if not n_workers:
            raise InputError(
                f"No machine of Ray's cluster ({self.address}) has {cores} CPU cores for a worker. "
                "Ask for fewer with --ray-cores."
            )
        return n_workers, {"num_cpus": cores}

    def _start(self) -> None:
        ray = self._ray
        assert ray is not None
        if ray.is_initialized():  # by the program that we are part of: it is not ours to end
            return
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if self.address == LOCAL:
            # Ray's own folder would stay behind, and belongs to whom came first.
            usual = tempfile.gettempdir()
            short = usual if len(usual) <= TEMPORARY_NAME or not os.path.isdir("/tmp") else "/tmp"
            self._folder = tempfile.mkdtemp(prefix="mretrieve-", dir=short)
            options |= {"include_dashboard": False, "_temp_dir": self._folder}
            options |= {"object_store_memory": OBJECT_STORE_BYTES}
        self._is_mine = True
        if threading.current_thread() is threading.main_thread():
            self._on_sigterm = signal.getsignal(signal.SIGTERM)  # Ray puts one of its own there
        try:
            ray.init(address=self.address, **options)
        except BaseException as error:
            self.close()
            if isinstance(error, Exception):
                raise InputError(_unreachable(self.address, reason_of(error))) from error
            raise

    def _resources(self, name: str) -> list[int]:
        """How many of a resource each machine has."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return [int(node.get(name, 0)) for node in nodes]

    def _most(self, name: str) -> int:
        return max(self._resources(name), default=0)

    def _count(self, name: str, each: int) -> int:
        return sum(n // each for n in self._resources(name))


def _import_ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingDependencyError(
            "--ray needs Ray, which is not installed. Run `pip install 'mretrieve[ray]'`."
        ) from error


def _host_and_port(address: str) -> tuple[str, int] | None:
    """Where a cluster should answer; None where Ray is to find it or to start it."""
    if address in (LOCAL, "auto"):
        return None
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or "/" in host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise InputError(
            f"'{address}' is no address of Ray. Give HOST:PORT, ray://HOST:PORT or auto, or --ray alone, at "
            "the end, for workers on this machine."
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _check_answer(address: str, host: str, port: int) -> None:
    """Ask for a sign of life, because Ray itself tries for two minutes; raises InputError without one."""
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("0", "", "false"):
        return  # what greets there speaks only to those with a certificate
    answer = b""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection:
            connection.sendall(_HTTP2_GREETING)
            while len(answer) < 9 and (more := connection.recv(9 - len(answer))):
                answer += more
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(_unreachable(address, reason)) from error
    if len(answer) < 9 or answer[3] != _SETTINGS:
        raise InputError(_unreachable(address, "something else than Ray answers there"))


def _unreachable(address: str, reason: str) -> str:
    hint = ""
    if address not in (LOCAL, "auto") and not address.startswith("ray://"):
        hint = (
            " A machine that does not belong to the cluster joins it by `ray start --address HOST:PORT`, or "
            "gives ray://HOST:10001."
        )
    elif address == "auto":
        hint = " Start one with `ray start --head`, or give its HOST:PORT."
    return f"Ray ({address}) cannot be reached: {reason.rstrip('.')}.{hint}"


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Set variables that are not set, and take them back."""
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _descendants(pid: int) -> dict[int, str]:
    """Ray's processes below one, each with when it was started; none where the system has no `/proc`."""
    parents, starts = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            pid_of, (name, parent, start) = int(path.parent.name), _name_parent_start(path)
            parents[pid_of] = parent
            if _RAYS.search(name):
                starts[pid_of] = start
    below, found = {pid}, {pid}
    while below:
        below = {child for child, parent in parents.items() if parent in below} - found
        found |= below
    return {child: starts[child] for child in found if child in starts}


def _end(processes: dict[int, str]) -> None:
    """Kill those that are left: agents of Ray's that take a minute to see that all else has ended."""
    for pid, started in processes.items():
        with suppress(OSError):
            if _name_parent_start(Path(f"/proc/{pid}/stat"))[2] == started:
                os.kill(pid, signal.SIGKILL)


def _name_parent_start(stat: Path) -> tuple[str, int, str]:
    name, _, rest = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")
    fields = rest.split()
    return name, int(fields[1]), fields[19]
