"""What an operator watches: counters and histograms in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable

from ..optional import require

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The numbers of one server, in a registry of its own, so that two servers in one process do not mix.

    Args:
        waiting: Returns how many items wait for the model.
        indexed: Returns how many items the index holds; None where there is none.
    """

    def __init__(self, waiting: Callable[[], int], indexed: Callable[[], int | None]):
        client = require("prometheus_client", extra="serve", purpose="the server's /metrics")
        self._client, self._registry = client, client.CollectorRegistry()
        here = {"registry": self._registry}
        self.requests = client.Counter(
            "kyori_requests", "Requests answered, by route and status.", ["route", "method", "status"], **here
        )
        self.seconds = client.Histogram(
            "kyori_request_seconds",
            "From the last header to the answer.",
            ["route"],
            buckets=_SECONDS,
            **here,
        )
        self.in_flight = client.Gauge("kyori_requests_in_flight", "Requests being worked on.", **here)
        self.buffered = client.Gauge("kyori_buffered_bytes", "Bytes of bodies held now.", **here)
        self.model_items = client.Histogram(
            "kyori_model_batch_items", "Items that the model was given at once.", buckets=_ROWS, **here
        )
        self.model_seconds = client.Histogram(
            "kyori_model_batch_seconds", "Time of the model for one batch.", buckets=_SECONDS, **here
        )
        self.reloads = client.Counter("kyori_reloads", "Reloads of the run, by outcome.", ["outcome"], **here)
        client.Gauge("kyori_queue_items", "Items that wait for the model.", **here).set_function(waiting)
        client.Gauge("kyori_index_items", "Items in the index; NaN without one.", **here).set_function(
            lambda: float("nan") if (count := indexed()) is None else count
        )

    def model(self, items: int, seconds: float) -> None:
        """Count one batch of the model."""
        self.model_items.observe(items)
        self.model_seconds.observe(seconds)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self.requests.labels(route, method, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> tuple[bytes, str]:
        """Return the page for Prometheus and its content type."""
        return self._client.generate_latest(self._registry), self._client.CONTENT_TYPE_LATEST
