"""What a server is told when it starts."""

from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Choices for one server; the defaults are those of `mretrieve serve`.

    Attributes:
        indexes: folders written by `mretrieve index`, each served under its own name.
        models: models for embeddings, the first one the default. Empty: those of the indexes, else e5-small.
        reranker: cross-encoder for reranking; None scores by the embedding model.
        device: `auto`, `cpu` or `cuda`.
        dtype: `auto`, `fp32`, `bf16` or `int8`.
        host: address to listen on.
        port: port to listen on; 0 for any free one.
        api_key_file: file of keys, see `mretrieve.serve.auth`; None lets everybody in.
        insecure: whether a public address without keys is allowed.
        cors_origins: web origins that may call from a browser, `*` for all; empty for none.
        requests_per_minute: of each key that has no limit of its own; None for no limit.
        max_inputs: texts in one request.
        max_tokens: tokens in one request, all texts together.
        max_body_bytes: size of a request's body.
        max_waiting_tokens: tokens that may wait in a lane before requests are turned away with 503.
        grace_seconds: how long a stopping server works on requests that it has taken.
        token_table: file of the encoding `cl100k_base`; None looks where tiktoken and others keep it.
    """

    indexes: tuple[Path, ...] = ()
    models: tuple[str, ...] = ()
    reranker: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    host: str = LOOPBACK
    port: int = 8080
    api_key_file: Path | None = None
    insecure: bool = False
    cors_origins: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    max_inputs: int = 2048
    max_tokens: int = 300_000
    max_body_bytes: int = 16 << 20
    max_waiting_tokens: int = 600_000
    grace_seconds: int = 30
    token_table: Path | None = None
