"""What operators watch."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from api.access.authentication import WatcherDep

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def get_metrics(service: WatcherDep) -> Response:
    """Requests of this process, and how many jobs of the site wait, run and ended, by kind; of everybody together."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
