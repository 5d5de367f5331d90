"""Figures of a running server, for Prometheus."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import APIRouter

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


class Metrics:
    """The figures of one server, in a registry of its own.

    Attributes:
        registry: of prometheus_client; routes may register more.
        requests: by route, method and status.
        seconds: histogram of a request's time, by route.
        in_flight: requests that wait for their answers.
        batch_texts: histogram of texts computed together, by lane.
        batch_tokens: histogram of tokens computed together, by lane.
        waiting_texts: length of the queue, by lane.
        waiting_tokens: tokens in the queue, by lane.
        tokens: tokens embedded, by model and kind.
        rejected: requests turned away, by reason: `queue`, `rate`, `key` or `size`.
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "mretrieve_requests", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self.seconds = Histogram(
            "mretrieve_request_seconds", "Time to answer.", ["route"], registry=registry, buckets=_SECONDS
        )
        self.in_flight = Gauge("mretrieve_requests_in_flight", "Requests at work.", registry=registry)
        self.batch_texts = Histogram(
            "mretrieve_batch_texts", "Texts computed together.", ["lane"], registry=registry, buckets=_TEXTS
        )
        self.batch_tokens = Histogram(
            "mretrieve_batch_tokens",
            "Tokens computed together.",
            ["lane"],
            registry=registry,
            buckets=_TOKENS,
        )
        self.waiting_texts = Gauge(
            "mretrieve_queue_texts", "Texts waiting for a batch.", ["lane"], registry=registry
        )
        self.waiting_tokens = Gauge(
            "mretrieve_queue_tokens", "Tokens waiting for a batch.", ["lane"], registry=registry
        )
        self.tokens = Counter("mretrieve_tokens", "Tokens embedded.", ["model", "kind"], registry=registry)
        self.rejected = Counter("mretrieve_rejected", "Requests turned away.", ["reason"], registry=registry)


def metrics_router(metrics: Metrics) -> "APIRouter":
    """`GET /metrics`."""
    from fastapi import APIRouter
    from fastapi.responses import PlainTextResponse, Response
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    router = APIRouter(tags=["operation"])

    @router.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
    async def read_metrics() -> Response:
        """Requests, latencies, batch sizes, queue lengths and tokens, in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router
