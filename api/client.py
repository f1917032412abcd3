"""The Python client of the service.

with Client("http://127.0.0.1:8000") as client:
    model = client.upload_model("weights.safetensors", spec=ClassifierSpec(architecture="preact_resnet18", ...))
    client.wait_until_ready(model)
    job = client.submit_finetune(model.id, "cifar10", FinetuneSpec(threat=ThreatModel(epsilon="8/255")))
    report = client.report(job.id)
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

import httpx
from httpx import Response
from pydantic_core import to_jsonable_python

from api.problems.answers import Problem
from api.schemas.requests import JobTerms
from api.schemas.resources import DatasetResource, EventResource, JobResource, ModelResource, Pending
from api.uploads.digests import format_digest
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.reading import read_report
from faal_core.specs import AuditSpec, ClassifierDescription, FinetuneSpec
from jobs.states import FINAL, UploadState

POLL_SECONDS = 1.0  # if the answer has no Retry-After
LARGE = 32 * 2**20  # bytes; a larger file is sent in parts
RETRY_WAITS = (1.0, 5.0, 15.0, 30.0)  # seconds before each new try of a failed request of an upload in parts
ASSEMBLY_SECONDS = 900.0  # timeout of the request that joins the parts
SILENCE_SECONDS = 60.0  # without data before an event stream, which pings every 15 s, is considered lost

Upload = TypeVar("Upload", ModelResource, DatasetResource)


class ServiceProblem(Exception):
    """The service refused a request; `problem` states the reason."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.title}: {problem.detail}")
        self.problem = problem


class UploadRejected(Exception):
    """An upload was rejected or deleted; the message states the reason."""


class Client:
    """A connection to one service; close it, or use it in a `with` block.

    Every method raises ServiceProblem if the service refuses the request, and httpx.TransportError if it cannot be reached.

    Args:
        url: address of the service, such as http://127.0.0.1:8000.
        key: an API key, if the service requires one.
        timeout: seconds that one answer may take.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout: float = 60.0) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        transport = httpx.HTTPTransport(retries=3)
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._http.close()

    def upload_model(
        self,
        file: str | Path,
        *,
        spec: ClassifierDescription | None = None,
        name: str | None = None,
        weights_key: str | None = None,
    ) -> ModelResource:
        """Upload weights, and return the model, which a worker checks. A file that FAAL wrote needs no `spec`."""
        fields = {} if spec is None else {"spec": spec.model_dump_json()}
        fields |= {} if weights_key is None else {"weights_key": weights_key}
        return ModelResource.model_validate_json(self._upload("/models", Path(file), name, fields).content)

    def upload_dataset(self, file: str | Path, *, name: str | None = None) -> DatasetResource:
        """Upload a data set, and return it. A worker checks it."""
        return DatasetResource.model_validate_json(self._upload("/datasets", Path(file), name, {}).content)

    def make_candidate(self, job_id: str, number: int) -> ModelResource:
        """Make a model of candidate `number` (from 0) of a fine-tuning. Call `wait_until_ready` before you use it."""
        answer = _check(self._http.post(f"/jobs/{job_id}/candidates/{number}"))
        return ModelResource.model_validate_json(answer.content)

    def wait_until_ready(self, upload: Upload, *, timeout: float | None = None) -> Upload:
        """Wait for the check of an upload, and return it. Raises: UploadRejected, TimeoutError after `timeout` seconds."""
        deadline = _Deadline(timeout)
        while upload.status is UploadState.VALIDATING:
            deadline.sleep(POLL_SECONDS)
            answer = _check(self._http.get(f"/{upload.object}s/{upload.id}"))
            upload = type(upload).model_validate_json(answer.content)
        if upload.status is not UploadState.READY:
            raise UploadRejected(f"{upload.id} is {upload.status}" if upload.error is None else upload.error.message)
        return upload

    def submit_finetune(
        self,
        model: str,
        dataset: str,
        spec: FinetuneSpec,
        *,
        idempotency_key: str | None = None,
        **terms: Unpack[JobTerms],
    ) -> JobResource:
        """Submit a fine-tuning of the model with that id, and return the queued job. `dataset` is a catalog name or an id.

        Args:
            terms: priority, pool, limits and metadata, as `api.schemas.requests.JobTerms` defines them.
        """
        return self._submit("/jobs/finetune", spec, {"model": model, "dataset": dataset, **terms}, idempotency_key)

    def submit_audit(
        self,
        model: str,
        dataset: str,
        spec: AuditSpec,
        *,
        idempotency_key: str | None = None,
        **terms: Unpack[JobTerms],
    ) -> JobResource:
        """Submit an audit of a model, and return the queued job. The arguments are those of `submit_finetune`."""
        return self._submit("/jobs/audit", spec, {"model": model, "dataset": dataset, **terms}, idempotency_key)

    def job(self, job_id: str) -> JobResource:
        """Return the job in its present state."""
        return JobResource.model_validate_json(_check(self._http.get(f"/jobs/{job_id}")).content)

    def cancel(self, job_id: str) -> JobResource:
        """Cancel the job, and return it. A running job stops within seconds."""
        return self._post_order(job_id, "cancel")

    def pause(self, job_id: str) -> JobResource:
        """Pause the job, and return it. A running job stops within seconds."""
        return self._post_order(job_id, "pause")

    def resume(self, job_id: str) -> JobResource:
        """Resume a paused job, and return it."""
        return self._post_order(job_id, "resume")

    def retry(self, job_id: str) -> JobResource:
        """Submit a job that failed or was cancelled again, and return the new job."""
        return self._post_order(job_id, "retry")

    def delete_job(self, job_id: str) -> None:
        """Delete a job that has ended, with its events and its report."""
        _check(self._http.delete(f"/jobs/{job_id}"))

    def delete_model(self, model_id: str) -> ModelResource:
        """Delete the weights of a model, and return the model."""
        return ModelResource.model_validate_json(_check(self._http.delete(f"/models/{model_id}")).content)

    def delete_dataset(self, dataset_id: str) -> DatasetResource:
        """Delete the file of a data set, and return the data set."""
        return DatasetResource.model_validate_json(_check(self._http.delete(f"/datasets/{dataset_id}")).content)

    def _post_order(self, job_id: str, order: str) -> JobResource:
        return JobResource.model_validate_json(_check(self._http.post(f"/jobs/{job_id}/{order}")).content)

    def report(
        self, job_id: str, *, timeout: float | None = None, progress: Callable[[Pending], None] = lambda _: None
    ) -> AuditReport | FinetuneReport:
        """Wait for the report of a job, and return it. Until then, `progress` receives the progress of the job.

        A cancelled audit that has results returns a report that is not `complete`.
        Raises: ServiceProblem with `job-failed` or `job-cancelled`, TimeoutError after `timeout` seconds.
        """
        deadline = _Deadline(timeout)
        while (answer := _check(self._http.get(f"/jobs/{job_id}/report"))).status_code == httpx.codes.ACCEPTED:
            progress(Pending.model_validate_json(answer.content))
            deadline.sleep(float(answer.headers.get("Retry-After", POLL_SECONDS)))
        return read_report(answer.content)

    def report_page(self, job_id: str) -> str:
        """Return the report of a job that succeeded, as an HTML page."""
        return _check(self._http.get(f"/jobs/{job_id}/report", params={"format": "html"})).text

    def events(self, job_id: str, *, after: int = 0) -> Iterator[EventResource]:
        """Yield the events of the job after the event number `after`, past and new ones, until the job ends."""
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            timeout = httpx.Timeout(self._http.timeout.connect, read=SILENCE_SECONDS)
            try:
                with self._http.stream("GET", f"/jobs/{job_id}/events", headers=headers, timeout=timeout) as answer:
                    if answer.status_code == httpx.codes.NO_CONTENT:
                        return
                    for event in _events(_check(answer)):
                        yield event
                        if event.kind in FINAL:
                            return
                        after = event.seq
            except (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError):
                time.sleep(POLL_SECONDS)  # the stream broke; the next request resumes it after the last event

    def download_weights(self, model_id: str, file: str | Path) -> Path:
        """Save the model's weights as safetensors in `file`, and return its path. Raises: ValueError if they arrive damaged."""
        target, digest = Path(file), hashlib.sha256()
        address = f"/models/{model_id}/weights"
        with self._http.stream("GET", address, follow_redirects=True) as answer, target.open("wb") as output:
            for chunk in _check(answer).iter_bytes():
                digest.update(chunk)
                output.write(chunk)
        own_answer = answer.history[0] if answer.history else answer  # of the service, not of the object store
        if own_answer.headers["Repr-Digest"] != format_digest(digest.hexdigest()):
            raise ValueError(f"the weights of {model_id} arrived damaged in {target}; download them again")
        return target

    def _upload(self, path: str, file: Path, name: str | None, fields: Mapping[str, str]) -> Response:
        """Send a form with the file and its digest, and return the answer. A large file is sent in parts first."""
        form = dict(fields) if name is None else {**fields, "name": name}
        if file.stat().st_size > LARGE:
            return self._upload_in_parts(path, file, {**form, "name": name or file.stem[:200]})
        with file.open("rb") as content:
            digest = {"Content-Digest": format_digest(hashlib.file_digest(content, "sha256").hexdigest())}
            content.seek(0)
            part = (file.name, content, "application/octet-stream", digest)
            return _check(self._http.post(path, data=form, files={"file": part}))

    def _upload_in_parts(self, path: str, file: Path, form: Mapping[str, str]) -> Response:
        """Send the file in parts, then a form with the id of the upload. Return the answer to the form."""
        upload = _check(self._http.post("/uploads", json={"size": file.stat().st_size})).json()
        address = f"/uploads/{upload['id']}"
        with file.open("rb") as content:
            for number in range(-(-upload["size"] // upload["part_bytes"])):
                part = content.read(upload["part_bytes"])
                headers = {"Content-Digest": format_digest(hashlib.sha256(part).hexdigest())}
                self._send_with_retries("PUT", f"{address}/parts/{number}", content=part, headers=headers)
        fields = {name: (None, value) for name, value in {**form, "upload": upload["id"]}.items()}
        answer = self._send_with_retries(
            "POST", path, files=fields, headers={"Idempotency-Key": upload["id"]}, timeout=ASSEMBLY_SECONDS
        )
        self._http.delete(address)
        return answer

    def _send_with_retries(self, method: str, path: str, **request: Any) -> Response:  # noqa: ANN401 - httpx's arguments
        """Send the request until it is answered. Raises: httpx.TransportError, ServiceProblem after the last try."""
        for wait in RETRY_WAITS:
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError:
                time.sleep(wait)
                continue
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return _check(answer)
            time.sleep(float(answer.headers.get("Retry-After", wait)))
        return _check(self._http.request(method, path, **request))

    def _submit(
        self, path: str, spec: FinetuneSpec | AuditSpec, fields: Mapping[str, object], idempotency_key: str | None
    ) -> JobResource:
        body = {**spec.model_dump(mode="json"), **to_jsonable_python(fields)}
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return JobResource.model_validate_json(_check(self._http.post(path, json=body, headers=headers)).content)


class _Deadline:
    """The time at which a wait ends; None for no limit."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._at = None if seconds is None else time.monotonic() + seconds

    def sleep(self, seconds: float) -> None:
        """Wait for some seconds. Raises: TimeoutError after the deadline."""
        if self._at is not None and time.monotonic() >= self._at:
            raise TimeoutError(f"the wait took longer than {self._seconds:g} s")
        time.sleep(seconds)


def _check(answer: Response) -> Response:
    """Return the answer to a request that was not refused. Raises: ServiceProblem."""
    if answer.is_error:
        answer.read()
        try:
            problem = Problem.model_validate_json(answer.content)
        except ValueError:
            answer.raise_for_status()
            raise
        raise ServiceProblem(problem)
    return answer


def _events(answer: Response) -> Iterator[EventResource]:
    """Yield the events of a stream. The service sends each event as one line of data."""
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield EventResource.model_validate(json.loads(line.removeprefix("data: ")))
