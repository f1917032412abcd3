"""The client for synchronous code. `scripts/write_sync_client.py` generates it from `async_client.py`."""

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar, Unpack

import httpx
from httpx import Response
from pydantic import BaseModel

from faal_client import request_parts
from faal_client.digests import format_digest
from faal_client.errors import UploadRejected, check_answer
from faal_client.progress_display import ProgressCallback, describe_pending, show_progress
from faal_client.request_parts import POLL_SECONDS, Deadline
from faal_client.resources.catalog import Catalog
from faal_client.resources.keys import KeyResource, NewKey
from faal_client.resources.links import LinkResource, NewLink
from faal_client.resources.objects import (
    DatasetResource,
    EstimateResource,
    EventResource,
    JobResource,
    ModelResource,
    Page,
    Pending,
    Resource,
)
from faal_client.resources.plans import PlanHistory, PlanResource
from faal_client.resources.signing import SigningKeyResource
from faal_client.resources.studies import StudyResource, StudyWithRuns
from faal_client.resources.webhooks import MessageResource, NewWebhook, WebhookResource
from faal_client.retries import Retries, read_retry_after
from faal_client.terms import JobTerms
from faal_client.vocabulary import FINAL, JobKind, JobState, Scope, UploadState
from faal_core.results.comparison_documents import ComparisonReport, ModelTable
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.gates.documents import GateResult
from faal_core.results.method_table_documents import MethodTable
from faal_core.results.reading import read_any_report
from faal_core.specs import AuditSpec, ClassifierDescription, FinetuneSpec, MethodSpec, Policy

Body = TypeVar("Body", bound=BaseModel)
Item = TypeVar("Item", bound=Resource)
Upload = TypeVar("Upload", ModelResource, DatasetResource)
Settings = Mapping[str, Any]
"""A spec as JSON, which the service checks."""


class Listing(Generic[Item]):
    """A list of the service, newest first: iterate over its items, or over its pages.

    Args:
        client: the client that asks for the pages.
        page: the type of a page.
        path: address of the list.
        filters: query parameters.
        page_size: maximum number of items in a page, from 1 to 100.
    """

    def __init__(self, client: "Client", page: type[Page[Item]], path: str, filters: Settings, page_size: int) -> None:
        self._client, self._page, self._path = client, page, path
        self._parameters = {**{name: value for name, value in filters.items() if value is not None}, "limit": page_size}

    def __iter__(self) -> Iterator[Item]:
        """Yield all items. The next page is read when it is needed."""
        for page in self.pages():
            for item in page.data:
                yield item

    def pages(self, *, after: str | None = None) -> Iterator[Page[Item]]:
        """Yield the pages after the item with the id `after`; by default all pages."""
        page = self.page(after=after)
        yield page
        while page.has_more:
            page = self.page(after=page.last_id)
            yield page

    def page(self, *, after: str | None = None) -> Page[Item]:
        """Return one page: the items after the one with the id `after`, by default the newest items."""
        parameters = self._parameters if after is None else {**self._parameters, "after": after}
        answer = self._client.request("GET", self._path, params=parameters)
        return self._page.model_validate_json(answer.content)


class Client:
    """A connection to one service; close it, or use it in a `with` block.

    If the service answers 429 or 503, the client sends the request again after the time in `Retry-After`. It does so for GET, PUT
    and DELETE requests, and for requests with an `idempotency_key`. It does not do so for downloads and `events`.

    Every method raises ServiceProblem if the service refuses the request, and httpx.TransportError if it cannot be reached.

    Args:
        url: address of the service, such as http://127.0.0.1:8000; default: the environment variable FAAL_URL.
        key: an API key, if the service requires one; default: the environment variable FAAL_API_KEY. "" sends none.
        timeout: seconds that one answer may take.
        retries: maximum number of times that one request is sent again.

    Raises:
        ValueError: there is neither a `url` nor FAAL_URL.
    """

    def __init__(
        self, url: str | None = None, *, key: str | None = None, timeout: float = 60.0, retries: int = 4
    ) -> None:
        transport = httpx.HTTPTransport(retries=3)
        address, headers = request_parts.find_url(url), request_parts.authorise(key)
        self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout, transport=transport)
        self._retries = retries

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def request(self, method: str, path: str, *, across_breaks: bool = False, **request: Any) -> Response:  # noqa: ANN401 - httpx's arguments
        """Send a request of your own, and return the answer. The other methods use this one.

        Args:
            across_breaks: also send the request again if the connection breaks.
            request: arguments of httpx, such as `json` and `params`.
        """
        retries = Retries(self._retries, method, request.get("headers", {}))
        while True:
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError:
                if not across_breaks or (wait := retries.wait_after_break()) is None:
                    raise
            else:
                if (wait := retries.wait_after(answer)) is None:
                    return check_answer(answer)
            time.sleep(wait)

    # Uploads

    def upload_model(
        self,
        file: str | Path,
        *,
        spec: ClassifierDescription | Settings | None = None,
        name: str | None = None,
        weights_key: str | None = None,
        idempotency_key: str | None = None,
    ) -> ModelResource:
        """Upload weights, and return the model, which a worker checks. A file that FAAL wrote needs no `spec`."""
        fields = {} if spec is None else {"spec": json.dumps(request_parts.job_body(spec, {}))}
        fields |= {} if weights_key is None else {"weights_key": weights_key}
        answer = self._upload("/models", Path(file), name, fields, idempotency_key)
        return ModelResource.model_validate_json(answer.content)

    def upload_dataset(
        self, file: str | Path, *, name: str | None = None, idempotency_key: str | None = None
    ) -> DatasetResource:
        """Upload a data set, and return it. A worker checks it."""
        answer = self._upload("/datasets", Path(file), name, {}, idempotency_key)
        return DatasetResource.model_validate_json(answer.content)

    def wait_until_ready(self, upload: Upload, *, timeout: float | None = None) -> Upload:
        """Wait for the check of an upload, and return it. Raises: UploadRejected, TimeoutError after `timeout` seconds."""
        deadline = Deadline(timeout)
        while upload.status is UploadState.VALIDATING:
            time.sleep(deadline.bound(POLL_SECONDS))
            upload = self._get(type(upload), f"/{upload.object}s/{upload.id}")
        if upload.status is not UploadState.READY:
            raise UploadRejected(f"{upload.id} is {upload.status}" if upload.error is None else upload.error.message)
        return upload

    def _upload(
        self, path: str, file: Path, name: str | None, fields: Mapping[str, str], idempotency_key: str | None
    ) -> Response:
        """Send a form with the file and its digest, and return the answer. A large file is sent in parts first."""
        form = dict(fields) if name is None else {**fields, "name": name}
        if file.stat().st_size > request_parts.LARGE:
            return self._upload_in_parts(path, file, {**form, "name": name or file.stem[:200]}, idempotency_key)
        content = file.read_bytes()
        digest = {"Content-Digest": format_digest(hashlib.sha256(content).hexdigest())}
        part = (file.name, content, "application/octet-stream", digest)
        headers = request_parts.once(idempotency_key)
        return self.request("POST", path, data=form, files={"file": part}, headers=headers)

    def _upload_in_parts(self, path: str, file: Path, form: Mapping[str, str], idempotency_key: str | None) -> Response:
        """Send the file in parts, then a form with the id of the upload. Return the answer to the form."""
        answer = self.request("POST", "/uploads", json={"size": file.stat().st_size})
        upload = answer.json()
        address = f"/uploads/{upload['id']}"
        with file.open("rb") as content:
            for number in range(-(-upload["size"] // upload["part_bytes"])):
                part = content.read(upload["part_bytes"])
                headers = {"Content-Digest": format_digest(hashlib.sha256(part).hexdigest())}
                part_address = f"{address}/parts/{number}"
                self.request("PUT", part_address, across_breaks=True, content=part, headers=headers)
        fields = {name: (None, value) for name, value in {**form, "upload": upload["id"]}.items()}
        answer = self.request(
            "POST",
            path,
            across_breaks=True,
            files=fields,
            headers=request_parts.once(idempotency_key or upload["id"]),
            timeout=request_parts.ASSEMBLY_SECONDS,
        )
        with suppress(httpx.TransportError):  # the service deletes an old upload by itself
            self._http.delete(address)
        return answer

    # Jobs

    def submit_finetune(
        self,
        model: str,
        dataset: str,
        spec: FinetuneSpec | Settings,
        *,
        idempotency_key: str | None = None,
        **terms: Unpack[JobTerms],
    ) -> JobResource:
        """Submit a fine-tuning of the model with that id, and return the queued job. `dataset` is a catalog name or an id.

        Args:
            spec: a FinetuneSpec, or its fields as JSON.
            idempotency_key: name of this submission; a repeated submission with the same name returns the same job.
            terms: priority, pool, limits and metadata, as JobTerms defines them.
        """
        fields = {"model": model, "dataset": dataset, **terms}
        return self._submit("/jobs/finetune", spec, fields, idempotency_key)

    def submit_audit(
        self,
        model: str,
        dataset: str,
        spec: AuditSpec | Settings,
        *,
        idempotency_key: str | None = None,
        **terms: Unpack[JobTerms],
    ) -> JobResource:
        """Submit an audit of a model, and return the queued job. The arguments are those of `submit_finetune`.

        Args:
            spec: an AuditSpec, or its fields as JSON, which may have `transfer_from`.
        """
        fields = {"model": model, "dataset": dataset, **terms}
        return self._submit("/jobs/audit", spec, fields, idempotency_key)

    def submit_comparison(
        self, jobs: Sequence[str], *, metadata: Mapping[str, str] | None = None, idempotency_key: str | None = None
    ) -> JobResource:
        """Submit a comparison of the audits of other jobs, and return the queued job.

        Args:
            jobs: ids of audits and fine-tunings that have succeeded: two to test their differences, more for a table.
            metadata: key-value pairs of your own, stored with the job.
            idempotency_key: as for `submit_finetune`.
        """
        body = {"jobs": list(jobs), "metadata": dict(metadata or {})}
        return self._post(JobResource, "/jobs/compare", json=body, headers=request_parts.once(idempotency_key))

    def estimate_finetune(
        self, model: str, dataset: str, spec: FinetuneSpec | Settings, **terms: Unpack[JobTerms]
    ) -> EstimateResource:
        """Return the estimated cost of a fine-tuning. Checks the request as `submit_finetune` does, and starts nothing."""
        fields = {"kind": "finetune", "model": model, "dataset": dataset, **terms}
        body = request_parts.job_body(spec, fields)
        return self._post(EstimateResource, "/jobs/estimate", json=body)

    def estimate_audit(
        self, model: str, dataset: str, spec: AuditSpec | Settings, **terms: Unpack[JobTerms]
    ) -> EstimateResource:
        """Return the estimated cost of an audit. Checks the request as `submit_audit` does, and starts nothing."""
        fields = {"kind": "audit", "model": model, "dataset": dataset, **terms}
        body = request_parts.job_body(spec, fields)
        return self._post(EstimateResource, "/jobs/estimate", json=body)

    def job(self, job_id: str) -> JobResource:
        """Return the job in its present state."""
        return self._get(JobResource, f"/jobs/{job_id}")

    def list_jobs(
        self,
        *,
        status: JobState | str | None = None,
        kind: JobKind | str | None = None,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        search: str | None = None,
        checks: bool = True,
        order: str | None = None,
        page_size: int = 100,
    ) -> Listing[JobResource]:
        """List the jobs that match all filters. Checks of uploads are jobs too, unless `checks` is false.

        Args:
            status: state of the jobs.
            kind: kind of the jobs.
            model: id of the jobs' model.
            metadata: pairs that the jobs have; all must match.
            search: text in the id, in the name of the model or data set, or in the metadata.
            checks: whether checks of uploads are listed too.
            order: value to sort by, such as "robust_worst" or "metadata.ticket"; "-created", the newest first, by default.
            page_size: number of jobs in a request.
        """
        pairs = [f"{key}:{value}" for key, value in (metadata or {}).items()] or None
        filters = {"status": status, "kind": kind, "model": model, "metadata": pairs, "search": search, "order": order}
        filters |= {} if checks else {"checks": "false"}
        return Listing(self, Page[JobResource], "/jobs", filters, page_size)

    def wait(
        self, job_id: str, *, timeout: float | None = None, progress: bool | ProgressCallback = False
    ) -> JobResource:
        """Wait until the job has ended, whether or not it succeeded, and return it. The arguments are those of `report`."""
        deadline = Deadline(timeout)
        with show_progress(progress) as report_progress:
            while (job := self.job(job_id)).status not in FINAL:
                report_progress(describe_pending(job))
                time.sleep(deadline.bound(POLL_SECONDS))
        return job

    def report(
        self, job_id: str, *, timeout: float | None = None, progress: bool | ProgressCallback = False
    ) -> AuditReport | FinetuneReport:
        """Wait for the report of a job, and return it.

        A cancelled audit that has results returns a report that is not `complete`.

        Args:
            job_id: id of an audit or a fine-tuning.
            timeout: maximum wait in seconds; default: no limit.
            progress: True shows a bar, if rich or tqdm is installed. A function receives the progress at every request.

        Raises:
            JobFailed, JobCancelled: the job has no report.
            TimeoutError: the wait took longer than `timeout`.
            ValueError: the job is a comparison.
        """
        match read_any_report(self._wait_for_report(job_id, timeout, progress)):
            case AuditReport() | FinetuneReport() as report:
                return report
            case _:
                raise ValueError(f"{job_id} is a comparison; call `comparison`")

    def comparison(
        self, job_id: str, *, timeout: float | None = None, progress: bool | ProgressCallback = False
    ) -> ComparisonReport | ModelTable:
        """Wait for the report of a comparison, and return it. The arguments and errors are those of `report`.

        Raises:
            ValueError: the job is no comparison.
        """
        match read_any_report(self._wait_for_report(job_id, timeout, progress)):
            case ComparisonReport() | ModelTable() as report:
                return report
            case _:
                raise ValueError(f"{job_id} is no comparison; call `report`")

    def _wait_for_report(self, job_id: str, timeout: float | None, progress: bool | ProgressCallback) -> bytes:
        """Return the report of a job as JSON, when it is there."""
        with show_progress(progress) as report_progress:

            def show(answer: Response) -> None:
                report_progress(Pending.model_validate_json(answer.content))

            answer = self._wait_for_result(f"/jobs/{job_id}/report", Deadline(timeout), show)
        return answer.content

    def _wait_for_result(
        self, path: str, deadline: Deadline, show: Callable[[Response], None] | None = None
    ) -> Response:
        """Repeat the request until its answer is no longer 202, and return this answer; `show` receives each earlier one."""
        while (answer := self.request("GET", path)).status_code == httpx.codes.ACCEPTED:
            if show is not None:
                show(answer)
            pause = read_retry_after(answer.headers.get("Retry-After"))
            time.sleep(deadline.bound(POLL_SECONDS if pause is None else pause))
        return answer

    def report_page(self, job_id: str) -> str:
        """Return the report of a job that succeeded, as an HTML page."""
        answer = self.request("GET", f"/jobs/{job_id}/report", params={"format": "html"})
        return answer.text

    def gate(self, job_id: str, policy: Policy | Settings) -> GateResult:
        """Judge the report of a job by a policy, and return the result; `passed` says whether it passes.

        Args:
            job_id: id of an audit, of a fine-tuning, or of a comparison, which is judged by its second audit.
            policy: a Policy, or its fields as JSON.
        """
        return self._post(GateResult, f"/jobs/{job_id}/gate", json=request_parts.job_body(policy, {}))

    def download_outcomes(self, job_id: str, file: str | Path, *, audit: Literal["before", "after"] = "after") -> Path:
        """Save the outcome of each image of an audit in `file`, as Parquet, and return its path.

        The file is written as `download_weights` writes weights.

        Args:
            job_id: id of a job that has a report.
            file: path of the new file.
            audit: audit of a fine-tuning: before or after the training. An audit job has only one audit.

        Raises:
            ValueError: the file arrived damaged, or the answer states no digest.
        """
        return self._download("GET", f"/jobs/{job_id}/outcomes?audit={audit}", Path(file))

    def pack(
        self,
        job_id: str,
        file: str | Path,
        *,
        policy: str | Path | None = None,
        policy_signature: str | Path | None = None,
    ) -> Path:
        """Save the evidence pack of a report in `file`, and return its path. `faal verify` checks it.

        The service signs the pack if its operator has set a key, which `signing_key` returns. The file is written as
        `download_weights` writes weights.

        Args:
            job_id: id of an audit, of a fine-tuning, or of a comparison of the same images, whose second audit is packed.
            file: path of the new file.
            policy: path of a policy's file, YAML or JSON; the pack gets the file and the policy's result.
            policy_signature: path of the file that `faal sign` wrote for the policy.

        Raises:
            ValueError: the file arrived damaged, or a file to send is not UTF-8.
            OSError: a file to send cannot be read.
        """
        texts = {"policy": policy, "policy_signature": policy_signature}
        body = {name: None if path is None else Path(path).read_bytes().decode() for name, path in texts.items()}
        return self._download("POST", f"/jobs/{job_id}/pack", Path(file), json=body)

    def signing_key(self) -> SigningKeyResource:
        """Return the public key that checks the signatures of the service's evidence packs.

        Raises:
            NotFound: the service signs no packs.
        """
        return self._get(SigningKeyResource, "/signing-key")

    def share_report(self, job_id: str, *, expires_in: int = 604_800) -> NewLink:
        """Make a link by which anybody reads the report of a job without an API key, and return it with its secret address.

        The service never shows the address again. Needs a key with the scopes `read` and `submit`.

        Args:
            job_id: id of a job that has a report.
            expires_in: seconds until the link expires, from 60 to 90 days; default: 7 days.
        """
        return self._post(NewLink, f"/jobs/{job_id}/links", json={"expires_in": expires_in})

    def list_links(self, job_id: str, *, page_size: int = 100) -> Listing[LinkResource]:
        """List the valid links to the report of a job, without their addresses."""
        return Listing(self, Page[LinkResource], f"/jobs/{job_id}/links", {}, page_size)

    def revoke_link(self, job_id: str, link_id: str) -> None:
        """Revoke a link to the report of a job."""
        self.request("DELETE", f"/jobs/{job_id}/links/{link_id}")

    def events(self, job_id: str, *, after: int = 0) -> Iterator[EventResource]:
        """Yield the events of the job after the event number `after`, past and new ones, until the job ends.

        A broken stream resumes after its last event. After `retries` failed reconnections in a row, the method raises
        httpx.TransportError.
        """
        breaks = None  # until the service has been reached once
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            timeout = httpx.Timeout(self._http.timeout.connect, read=request_parts.SILENCE_SECONDS)
            try:
                with self._http.stream("GET", f"/jobs/{job_id}/events", headers=headers, timeout=timeout) as answer:
                    if answer.status_code == httpx.codes.NO_CONTENT:
                        return
                    breaks = Retries(self._retries, "GET", {})
                    for event in _read_events(answer):
                        yield event
                        if event.kind in FINAL:
                            return
                        after = event.seq
                wait = POLL_SECONDS
            except httpx.TransportError:
                next_wait = None if breaks is None else breaks.wait_after_break()
                if next_wait is None:
                    raise
                wait = next_wait
            time.sleep(wait)

    def cancel(self, job_id: str) -> JobResource:
        """Cancel the job, and return it. A running job stops within seconds."""
        return self._post(JobResource, f"/jobs/{job_id}/cancel")

    def pause(self, job_id: str) -> JobResource:
        """Pause the job, and return it. A running job stops within seconds."""
        return self._post(JobResource, f"/jobs/{job_id}/pause")

    def resume(self, job_id: str) -> JobResource:
        """Resume a paused job, and return it."""
        return self._post(JobResource, f"/jobs/{job_id}/resume")

    def retry(self, job_id: str, *, idempotency_key: str | None = None) -> JobResource:
        """Submit a job that failed or was cancelled again, and return the new job."""
        return self._post(JobResource, f"/jobs/{job_id}/retry", headers=request_parts.once(idempotency_key))

    def delete_job(self, job_id: str) -> None:
        """Delete a job that has ended, with its events and its report."""
        self.request("DELETE", f"/jobs/{job_id}")

    def make_candidate(self, job_id: str, number: int) -> ModelResource:
        """Make a model of candidate `number` (from 0) of a fine-tuning. Call `wait_until_ready` before you use it."""
        return self._post(ModelResource, f"/jobs/{job_id}/candidates/{number}")

    def _submit(
        self, path: str, spec: FinetuneSpec | AuditSpec | Settings, fields: Settings, idempotency_key: str | None
    ) -> JobResource:
        body = request_parts.job_body(spec, fields)
        return self._post(JobResource, path, json=body, headers=request_parts.once(idempotency_key))

    # Models and data sets

    def catalog(self) -> Catalog:
        """Return the architectures, data sets, attack presets and methods that requests can name, and the defaults."""
        return self._get(Catalog, "/catalog")

    def model(self, model_id: str) -> ModelResource:
        """Return the model in its present state."""
        return self._get(ModelResource, f"/models/{model_id}")

    def list_models(self, *, page_size: int = 100) -> Listing[ModelResource]:
        """List the uploaded and the fine-tuned models."""
        return Listing(self, Page[ModelResource], "/models", {}, page_size)

    def list_lineage(self, model_id: str, *, page_size: int = 100) -> Listing[ModelResource]:
        """List the model, the model it was fine-tuned from, and so on to the uploaded model."""
        return Listing(self, Page[ModelResource], f"/models/{model_id}/lineage", {}, page_size)

    def delete_model(self, model_id: str) -> ModelResource:
        """Delete the weights of a model, and return the model."""
        answer = self.request("DELETE", f"/models/{model_id}")
        return ModelResource.model_validate_json(answer.content)

    def download_weights(self, model_id: str, file: str | Path) -> Path:
        """Save the model's weights in `file`, as safetensors or as the ONNX file, and return its path.

        The weights are written to `<file>.part`, which replaces `file` when they have the digest that the service states.

        Raises:
            ValueError: the weights arrived damaged, or the answer states no digest.
        """
        return self._download("GET", f"/models/{model_id}/weights", Path(file))

    def dataset(self, dataset_id: str) -> DatasetResource:
        """Return the uploaded data set in its present state."""
        return self._get(DatasetResource, f"/datasets/{dataset_id}")

    def list_datasets(self, *, page_size: int = 100) -> Listing[DatasetResource]:
        """List the uploaded data sets. `catalog` has the data sets with a name."""
        return Listing(self, Page[DatasetResource], "/datasets", {}, page_size)

    def delete_dataset(self, dataset_id: str) -> DatasetResource:
        """Delete the file of a data set, and return the data set."""
        answer = self.request("DELETE", f"/datasets/{dataset_id}")
        return DatasetResource.model_validate_json(answer.content)

    # Plans

    def create_plan(
        self,
        name: str,
        model_name: str,
        dataset: str,
        spec: AuditSpec | Settings,
        *,
        policy: Policy | Settings | None = None,
        every_hours: int | None = None,
    ) -> PlanResource:
        """Create a plan, which audits each new version of a model, and return it. It audits the newest version at once.

        Args:
            name: name of the plan, for people.
            model_name: name of the models to audit; each of your models of this name is a version.
            dataset: catalog name or id of the data set.
            spec: an AuditSpec, or its fields as JSON.
            policy: requirements that each audit is judged by: a Policy, or its fields as JSON.
            every_hours: hours between two scheduled runs; default: only new versions are audited.
        """
        fields = {
            "name": name,
            "model_name": model_name,
            "dataset": dataset,
            "policy": policy,
            "every_hours": every_hours,
        }
        return self._post(PlanResource, "/plans", json=request_parts.job_body(spec, fields))

    def plan(self, plan_id: str) -> PlanHistory:
        """Return the plan with its last 100 runs."""
        return self._get(PlanHistory, f"/plans/{plan_id}")

    def list_plans(self, *, page_size: int = 100) -> Listing[PlanResource]:
        """List your plans, including paused ones."""
        return Listing(self, Page[PlanResource], "/plans", {}, page_size)

    def change_plan(
        self,
        plan_id: str,
        *,
        paused: bool | None = None,
        baseline: str | None = None,
        policy: Policy | Settings | None = None,
        remove_policy: bool = False,
    ) -> PlanResource:
        """Pause or resume the plan, or change its baseline or its policy, and return the plan.

        Args:
            plan_id: id of the plan.
            paused: True pauses the plan, False resumes it; None changes nothing.
            baseline: id of an audit with the data set and the settings of the plan; None changes nothing.
            policy: requirements that later audits are judged by: a Policy, or its fields as JSON; None changes nothing.
            remove_policy: True removes the policy, so that later audits are not judged; not with `policy`.

        Raises: ValueError for `policy` and `remove_policy` together.
        """
        if remove_policy and policy is not None:
            raise ValueError("Pass either policy or remove_policy.")
        changes = {"paused": paused, "baseline": baseline, "policy": policy}
        fields: dict[str, object] = {name: value for name, value in changes.items() if value is not None}
        if remove_policy:
            fields["policy"] = None
        answer = self.request("PATCH", f"/plans/{plan_id}", json=request_parts.job_body({}, fields))
        return PlanResource.model_validate_json(answer.content)

    def run_plan(self, plan_id: str) -> JobResource:
        """Audit the newest version of the plan's model now, and return the queued job."""
        return self._post(JobResource, f"/plans/{plan_id}/run")

    def delete_plan(self, plan_id: str) -> None:
        """Delete the plan and its list of runs. Its jobs are kept."""
        self.request("DELETE", f"/plans/{plan_id}")

    # Studies

    def create_study(
        self,
        name: str,
        model: str,
        dataset: str,
        spec: Settings,
        *,
        methods: Sequence[MethodSpec | Settings],
        seeds: Sequence[int],
        idempotency_key: str | None = None,
        **terms: Unpack[JobTerms],
    ) -> StudyWithRuns:
        """Fine-tune a model by several methods with several seeds, and return the study with its queued jobs.

        Either all jobs are submitted or none.

        Args:
            name: name of the study, for people.
            model: id of the model.
            dataset: catalog name or id of the data set.
            spec: the fields of a FinetuneSpec as JSON, without `method` and without `seed` of `training`.
            methods: 1 to 10 different method specs, or their fields as JSON, such as {"type": "faal"}.
            seeds: 1 to 10 different seeds. A study has at most 30 jobs.
            idempotency_key: as for `submit_finetune`.
            terms: priority, pool, limits and metadata of each job, as JobTerms defines them.
        """
        fields = {"name": name, "model": model, "dataset": dataset, "methods": methods, "seeds": seeds, **terms}
        body, headers = request_parts.job_body(spec, fields), request_parts.once(idempotency_key)
        return self._post(StudyWithRuns, "/studies", json=body, headers=headers)

    def study(self, study_id: str) -> StudyWithRuns:
        """Return the study with its jobs in their present state."""
        return self._get(StudyWithRuns, f"/studies/{study_id}")

    def list_studies(self, *, page_size: int = 100) -> Listing[StudyResource]:
        """List your studies, with the number of their jobs in each state."""
        return Listing(self, Page[StudyResource], "/studies", {}, page_size)

    def wait_for_study(self, study_id: str, *, timeout: float | None = None) -> StudyWithRuns:
        """Wait until all jobs of the study have ended, and return it. Raises: TimeoutError after `timeout` seconds."""
        deadline = Deadline(timeout)
        while (study := self.study(study_id)).done < study.total:
            time.sleep(deadline.bound(POLL_SECONDS))
        return study

    def study_table(self, study_id: str, *, timeout: float | None = None) -> MethodTable:
        """Return the table of the methods from the jobs that have succeeded so far; wait for the first one.

        Args:
            study_id: id of the study.
            timeout: maximum wait in seconds; default: no limit.

        Raises:
            Conflict: all jobs have ended and none has succeeded.
            TimeoutError: the wait took longer than `timeout`.
        """
        answer = self._wait_for_result(f"/studies/{study_id}/table", Deadline(timeout))
        return MethodTable.model_validate_json(answer.content)

    def cancel_study(self, study_id: str) -> StudyWithRuns:
        """Cancel the jobs of the study that have not ended, and return it. Running jobs stop within seconds."""
        return self._post(StudyWithRuns, f"/studies/{study_id}/cancel")

    def delete_study(self, study_id: str) -> None:
        """Delete the study. Its jobs are kept, and jobs that have not ended continue."""
        self.request("DELETE", f"/studies/{study_id}")

    # Webhooks

    def create_webhook(self, url: str) -> NewWebhook:
        """Register a webhook for ended jobs and falls of accuracy, and return it with the secret that signs its messages."""
        return self._post(NewWebhook, "/webhooks", json={"url": url})

    def list_webhooks(self, *, page_size: int = 100) -> Listing[WebhookResource]:
        """List your webhooks, including disabled ones."""
        return Listing(self, Page[WebhookResource], "/webhooks", {}, page_size)

    def delete_webhook(self, webhook_id: str) -> None:
        """Delete a webhook, which gets no more messages."""
        self.request("DELETE", f"/webhooks/{webhook_id}")

    def list_webhook_messages(self, webhook_id: str, *, page_size: int = 100) -> Listing[MessageResource]:
        """List the messages of the last 30 days to a webhook, and the outcome of each."""
        return Listing(self, Page[MessageResource], f"/webhooks/{webhook_id}/messages", {}, page_size)

    def ping_webhook(self, webhook_id: str) -> MessageResource:
        """Send a message of type `ping` to a webhook within seconds, and return it."""
        return self._post(MessageResource, f"/webhooks/{webhook_id}/ping")

    # API keys, for administrators

    def create_key(
        self,
        owner: str,
        name: str,
        *,
        scopes: Collection[Scope | str] = (Scope.READ, Scope.SUBMIT),
        max_priority: int = 0,
        days: float | None = 90,
    ) -> NewKey:
        """Create an API key, and return it. The service never shows it again. Needs a key with the scope `admin`.

        Args:
            owner: owner of the objects that are created with the key.
            name: name of the key, for people.
            scopes: permissions of the key.
            max_priority: highest priority of the jobs that are submitted with the key.
            days: days until the key expires; None: it is valid until it is revoked.
        """
        body = {"owner": owner, "name": name, "scopes": list(scopes), "max_priority": max_priority, "days": days}
        return self._post(NewKey, "/keys", json=body)

    def list_keys(self, *, owner: str | None = None, page_size: int = 100) -> Listing[KeyResource]:
        """List the keys of all owners or of one, including revoked and expired keys."""
        return Listing(self, Page[KeyResource], "/keys", {"owner": owner}, page_size)

    def revoke_key(self, key_id: str) -> KeyResource:
        """Revoke a key and the browser sessions that it opened, and return it."""
        return self._post(KeyResource, f"/keys/{key_id}/revoke")

    def _download(self, method: str, address: str, target: Path, **request: Any) -> Path:  # noqa: ANN401 - httpx's arguments
        """Save a file in `target`, and return its path. Raises: ValueError if it arrives damaged or without a digest."""
        digest = hashlib.sha256()
        partial = target.with_name(f"{target.name}.part")
        with self._http.stream(method, address, follow_redirects=True, **request) as answer:
            if answer.is_error:
                answer.read()
            check_answer(answer)
            own_answer = answer.history[0] if answer.history else answer  # of the service, not of the object store
            expected = own_answer.headers.get("Repr-Digest")
            if expected is None:
                raise ValueError(f"the answer to {method} {address} has no Repr-Digest to check the file with")
            try:
                with partial.open("wb") as output:
                    for chunk in answer.iter_bytes():
                        digest.update(chunk)
                        output.write(chunk)
                if expected != format_digest(digest.hexdigest()):
                    raise ValueError(f"the answer to {method} {address} arrived damaged; download it again")
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
        return target

    def _get(self, body: type[Body], path: str) -> Body:
        answer = self.request("GET", path)
        return body.model_validate_json(answer.content)

    def _post(self, body: type[Body], path: str, **request: Any) -> Body:  # noqa: ANN401 - httpx's arguments
        answer = self.request("POST", path, **request)
        return body.model_validate_json(answer.content)


def _read_events(answer: Response) -> Iterator[EventResource]:
    """Yield the events of a stream. The service sends each event as one line of data."""
    if answer.is_error:
        answer.read()
    check_answer(answer)
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield EventResource.model_validate(json.loads(line.removeprefix("data: ")))
