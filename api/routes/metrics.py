"""Metrics for operators."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from api.access.authentication import WatcherDep

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    summary="Get metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def get_metrics(service: WatcherDep) -> Response:
    """Return the requests of this process, and the jobs of all owners by kind and status."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
