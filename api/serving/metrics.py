"""Metrics for Prometheus: the requests of this process, and the jobs and webhooks of the whole site.

No metric has a label for a job, a model or an owner, so the number of series does not grow with use.
"""

from collections.abc import Iterator
from http import HTTPMethod

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from jobs import queries, webhooks
from jobs.database import Sessions

_NO_ROUTE = "(none)"  # label of an address without a route
_OTHER = "(other)"  # label of an unknown HTTP method


class Metrics:
    """The metrics of one process of the service.

    Args:
        sessions: sessions that see the rows of all owners.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("faal_http_requests", "Requests answered.", labels, registry=self._registry)
        self._seconds = Histogram(
            "faal_http_request_seconds", "Until an answer began.", ("method", "route"), registry=self._registry
        )
        self._registry.register(_Site(sessions))

    def count_request(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count an answered request."""
        method, route = method if method in HTTPMethod.__members__ else _OTHER, route or _NO_ROUTE
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)


class _Site(Collector):
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def describe(self) -> list[Metric]:
        """Return no metrics, so that registering does not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of jobs by kind and status, and of webhook messages."""
        with self._sessions() as session:
            counts, messages = queries.compute_statistics(session), webhooks.count_waiting(session)
        labels = ("kind", "status")
        count = GaugeMetricFamily("faal_jobs", "Jobs.", labels=labels)
        oldest = GaugeMetricFamily("faal_jobs_oldest_seconds", "Since the oldest of them was submitted.", labels=labels)
        crashes = GaugeMetricFamily("faal_jobs_crashes", "Attempts of them whose process died.", labels=labels)
        outages = GaugeMetricFamily("faal_jobs_outages", "Attempts that an outage ended.", labels=labels)
        lost = GaugeMetricFamily("faal_jobs_leases_lost", "Attempts whose lease ran out.", labels=labels)
        waited = SummaryMetricFamily("faal_job_wait_seconds", "Until the last attempt began.", labels=labels)
        ran = SummaryMetricFamily("faal_job_run_seconds", "From then to the end, of ended ones.", labels=labels)
        memory = GaugeMetricFamily("faal_jobs_gpu_bytes", "The most that one held of a GPU's memory.", labels=labels)
        for row in counts:
            by = (row.kind, row.state)
            count.add_metric(by, row.jobs)
            oldest.add_metric(by, row.oldest)
            crashes.add_metric(by, row.crashes)
            outages.add_metric(by, row.outages)
            lost.add_metric(by, row.leases_lost)
            waited.add_metric(by, row.starts, row.wait_seconds)
            ran.add_metric(by, row.ends, row.run_seconds)
            memory.add_metric(by, row.gpu_bytes or 0)
        yield from (count, oldest, crashes, outages, lost, waited, ran, memory)
        yield GaugeMetricFamily("faal_webhook_messages_waiting", "Messages to be tried, once more or at all.", messages)
