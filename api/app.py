"""Build the web application (ASGI) from the settings. This module and its imports do not import torch."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles

import faal_core
from api.pages import (
    access_pages,
    explanations,
    gate_page,
    job_list,
    job_page,
    login,
    plan_pages,
    sharing,
    study_pages,
    unknown_addresses,
    uploads,
)
from api.pages.guide import Guide
from api.problems import answers
from api.routes import (
    candidates,
    catalog,
    comparisons,
    datasets,
    estimates,
    events,
    gates,
    health,
    jobs,
    keys,
    links,
    metrics,
    models,
    outcomes,
    packs,
    partial_uploads,
    plans,
    reports,
    studies,
    webhooks,
)
from api.serving import openapi
from api.serving.connections import PATIENCE, Patience
from api.serving.dependencies import DOWNLOADS, PACKS, STREAMS, THREADS, UPLOADS, Service
from api.serving.downloads import Downloads
from api.serving.metrics import Metrics
from api.serving.middleware import RequestRules
from api.serving.rates import Rates
from api.serving.readiness import Readiness
from api.serving.request_log import RequestLog
from api.serving.signing import read_signer
from api.serving.slots import Slots
from api.webhooks.delivery import Delivery
from faal_core.catalog import offer_networks
from jobs.database import open_database
from jobs.queue import Queue
from jobs.settings import Settings
from jobs.storage import open_storage
from jobs.webhooks import MOST_WEBHOOKS

UPLOAD_PATHS = re.compile("|".join(["/models", "/datasets", "/uploads/[^/]+/parts/[^/]+", *uploads.UPLOAD_PATHS]))


def create_app(settings: Settings, patience: Patience = PATIENCE) -> FastAPI:
    """Return the web application for the settings. It opens its connections when it runs.

    Raises: CannotStart where the signing key cannot be used.
    """
    app = FastAPI(
        title="FAAL",
        summary="Per-class adversarial-robustness audits, and fair fine-tuning of classifiers",
        version=faal_core.__version__,
        lifespan=_lifespan,
        docs_url=None,  # FastAPI's page loads scripts from another site; `api.pages` has its own
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    offer_networks(settings.networks)
    sessions, storage, queue = open_database(settings.database_url), open_storage(settings), Queue(settings)
    figures = Metrics(sessions)
    app.state.service = Service(
        settings=settings,
        sessions=sessions,
        storage=storage,
        queue=queue,
        uploads=Slots(UPLOADS, "open uploads"),
        downloads=Downloads(Slots(DOWNLOADS, "open downloads")),
        packs=Slots(PACKS, "packs that are being written", "Try again in a few seconds."),
        streams=Slots(STREAMS, "open event streams"),
        rates=Rates(settings.requests_per_minute),
        # The limit per webhook is stored with the webhook, which its owner can delete.
        pings=Rates(MOST_WEBHOOKS, "pings"),
        metrics=figures,
        readiness=Readiness(settings, sessions, storage, queue),
        signer=read_signer(settings),
    )
    answers.install(app)
    unknown_addresses.install(app)
    app.add_middleware(RequestRules, streamed=UPLOAD_PATHS, body_seconds=patience.body)
    app.add_middleware(RequestLog, metrics=figures)  # added last, so it wraps RequestRules
    for module in (
        estimates,
        jobs,
        comparisons,
        candidates,
        events,
        reports,
        gates,
        outcomes,
        packs,
        links,
        models,
        datasets,
        partial_uploads,
        plans,
        studies,
        webhooks,
        keys,
        catalog,
        health,
        metrics,
        login,
        job_list,
        job_page,
        gate_page,
        plan_pages,
        study_pages,
        uploads,
        access_pages,
        explanations,
    ):
        app.include_router(module.router)
    app.include_router(sharing.router)
    app.include_router(sharing.readers)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "pages" / "static"), name="static")
    app.mount("/guide", Guide(), name="guide")
    app.webhooks.include_router(webhooks.announcements)
    openapi.install(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Enlarge the thread pool for long requests, deliver webhooks while the service runs, then close the database."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    service: Service = app.state.service
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Delivery(service.settings, service.sessions).run)
        yield
        tasks.cancel_scope.cancel()
    service.sessions.close()


def _operation_id(route: APIRoute) -> str:
    """Return the name of the route's function, which generated clients use as the operation's name."""
    return route.name
