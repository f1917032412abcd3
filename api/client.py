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
from api.schemas.requests import Terms
from api.schemas.resources import DatasetResource, EventResource, JobResource, ModelResource, Pending
from api.uploads.digests import digest_field
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.reading import read_report
from faal_core.specs import AuditSpec, ClassifierSpec, FinetuneSpec
from jobs.states import FINAL, UploadState

POLL_SECONDS = 1.0  # where the service does not say when to ask again
LARGE = 32 * 2**20  # bytes of a file that is sent in parts
TRIES_AFTER = (1.0, 5.0, 15.0, 30.0)  # seconds, of what broke, while an upload comes in parts
PUT_TOGETHER_SECONDS = 900.0
SILENCE_SECONDS = 60.0  # of an event stream, which pings every 15 s, before it is taken for dead

Upload = TypeVar("Upload", ModelResource, DatasetResource)


class ServiceProblem(Exception):
    """The service refused: `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.title}: {problem.detail}")
        self.problem = problem


class UploadRejected(Exception):
    """An upload cannot be used, or not any more; the message says why."""


class Client:
    """One service; close it, or use it in a `with` block.

    Every method raises ServiceProblem for what the service refuses and httpx.TransportError when it cannot be reached.

    Args:
        url: where the service is, such as http://127.0.0.1:8000.
        key: an API key, where the service asks for one.
        timeout: seconds a single answer may take.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout: float = 60.0) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        transport = httpx.HTTPTransport(retries=3)
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give its connections back."""
        self._http.close()

    def upload_model(
        self,
        file: str | Path,
        *,
        spec: ClassifierSpec | None = None,
        name: str | None = None,
        weights_key: str | None = None,
    ) -> ModelResource:
        """The model, still to be checked. `spec` may be left out for files of ours; `weights_key` chooses one of several sets."""
        fields = {} if spec is None else {"spec": spec.model_dump_json()}
        fields |= {} if weights_key is None else {"weights_key": weights_key}
        return ModelResource.model_validate_json(self._upload("/models", Path(file), name, fields).content)

    def upload_dataset(self, file: str | Path, *, name: str | None = None) -> DatasetResource:
        """The data set, still to be checked."""
        return DatasetResource.model_validate_json(self._upload("/datasets", Path(file), name, {}).content)

    def make_candidate(self, job_id: str, number: int) -> ModelResource:
        """The model of a candidate in a fine-tuning's report, counted from 0; perhaps still to be made: `wait_until_ready`."""
        answer = _checked(self._http.post(f"/jobs/{job_id}/candidates/{number}"))
        return ModelResource.model_validate_json(answer.content)

    def wait_until_ready(self, upload: Upload, *, timeout: float | None = None) -> Upload:
        """The upload after its check. Raises: UploadRejected, TimeoutError after `timeout` seconds."""
        deadline = _Deadline(timeout)
        while upload.status is UploadState.VALIDATING:
            deadline.sleep(POLL_SECONDS)
            answer = _checked(self._http.get(f"/{upload.object}s/{upload.id}"))
            upload = type(upload).model_validate_json(answer.content)
        if upload.status is not UploadState.READY:
            raise UploadRejected(f"it is {upload.status}" if upload.error is None else upload.error.message)
        return upload

    def submit_finetune(
        self,
        model: str,
        dataset: str,
        spec: FinetuneSpec,
        *,
        idempotency_key: str | None = None,
        **terms: Unpack[Terms],
    ) -> JobResource:
        """The queued job that fine-tunes the model of that id. `dataset` is a catalog name or a data set's id.

        Args:
            terms: how it is run, as in `api.schemas.requests`.
        """
        return self._submit("/jobs/finetune", model, dataset, spec, idempotency_key, terms)

    def submit_audit(
        self, model: str, dataset: str, spec: AuditSpec, *, idempotency_key: str | None = None, **terms: Unpack[Terms]
    ) -> JobResource:
        """The queued job that judges the model of that id, likewise."""
        return self._submit("/jobs/audit", model, dataset, spec, idempotency_key, terms)

    def job(self, job_id: str) -> JobResource:
        """The job as it stands."""
        return JobResource.model_validate_json(_checked(self._http.get(f"/jobs/{job_id}")).content)

    def cancel(self, job_id: str) -> JobResource:
        """The job after it was called off; a running one stops within seconds."""
        return self._told(job_id, "cancel")

    def pause(self, job_id: str) -> JobResource:
        """The job after it was set aside; a running one stops within seconds."""
        return self._told(job_id, "pause")

    def resume(self, job_id: str) -> JobResource:
        """The job after it was queued again."""
        return self._told(job_id, "resume")

    def retry(self, job_id: str) -> JobResource:
        """A new job that asks for what one asked for that failed or was cancelled."""
        return self._told(job_id, "retry")

    def delete_job(self, job_id: str) -> None:
        """Nothing: the job that has ended is gone, with events and report."""
        _checked(self._http.delete(f"/jobs/{job_id}"))

    def delete_model(self, model_id: str) -> ModelResource:
        """The model after its weights were deleted."""
        return ModelResource.model_validate_json(_checked(self._http.delete(f"/models/{model_id}")).content)

    def delete_dataset(self, dataset_id: str) -> DatasetResource:
        """The data set after its file was deleted."""
        return DatasetResource.model_validate_json(_checked(self._http.delete(f"/datasets/{dataset_id}")).content)

    def _told(self, job_id: str, order: str) -> JobResource:
        return JobResource.model_validate_json(_checked(self._http.post(f"/jobs/{job_id}/{order}")).content)

    def report(
        self, job_id: str, *, timeout: float | None = None, progress: Callable[[Pending], None] = lambda _: None
    ) -> AuditReport | FinetuneReport:
        """The report, as soon as it is there; until then `progress` hears how far the job is.

        Of an audit that was cancelled it is not `complete`, if it is there at all. Raises: ServiceProblem with `job-failed`
        or `job-cancelled`, TimeoutError after `timeout` seconds.
        """
        deadline = _Deadline(timeout)
        while (answer := _checked(self._http.get(f"/jobs/{job_id}/report"))).status_code == httpx.codes.ACCEPTED:
            progress(Pending.model_validate_json(answer.content))
            deadline.sleep(float(answer.headers.get("Retry-After", POLL_SECONDS)))
        return read_report(answer.content)

    def report_page(self, job_id: str) -> str:
        """The report of a job that succeeded, as a page of HTML."""
        return _checked(self._http.get(f"/jobs/{job_id}/report", params={"format": "html"})).text

    def events(self, job_id: str, *, after: int = 0) -> Iterator[EventResource]:
        """What happened to the job since the event `after`, and what happens from now on, up to its end."""
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            timeout = httpx.Timeout(self._http.timeout.connect, read=SILENCE_SECONDS)
            try:
                with self._http.stream("GET", f"/jobs/{job_id}/events", headers=headers, timeout=timeout) as answer:
                    if answer.status_code == httpx.codes.NO_CONTENT:
                        return
                    for event in _events(_checked(answer)):
                        yield event
                        if event.kind in FINAL:
                            return
                        after = event.seq
            except (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError):
                time.sleep(POLL_SECONDS)  # the stream broke off; it goes on after the last event

    def download_weights(self, model_id: str, file: str | Path) -> Path:
        """`file`, which then holds the model's weights as safetensors. Raises: ValueError when they arrived damaged."""
        target, digest = Path(file), hashlib.sha256()
        address = f"/models/{model_id}/weights"
        with self._http.stream("GET", address, follow_redirects=True) as answer, target.open("wb") as output:
            for chunk in _checked(answer).iter_bytes():
                digest.update(chunk)
                output.write(chunk)
        ours = answer.history[0] if answer.history else answer  # and not the object store's
        if ours.headers["Repr-Digest"] != digest_field(digest.hexdigest()):
            raise ValueError(f"the weights of {model_id} arrived damaged in {target}; download them again")
        return target

    def _upload(self, path: str, file: Path, name: str | None, fields: Mapping[str, str]) -> Response:
        """The answer to a streamed form; the file's own digest travels with it. A large file comes in parts before."""
        form = dict(fields) if name is None else {**fields, "name": name}
        if file.stat().st_size > LARGE:
            return self._upload_in_parts(path, file, {**form, "name": name or file.stem[:200]})
        with file.open("rb") as content:
            digest = {"Content-Digest": digest_field(hashlib.file_digest(content, "sha256").hexdigest())}
            content.seek(0)
            part = (file.name, content, "application/octet-stream", digest)
            return _checked(self._http.post(path, data=form, files={"file": part}))

    def _upload_in_parts(self, path: str, file: Path, form: Mapping[str, str]) -> Response:
        """The answer to a form that names an upload in place of a file; what breaks on the way is sent again, a few times."""
        begun = _checked(self._http.post("/uploads", json={"size": file.stat().st_size})).json()
        address = f"/uploads/{begun['id']}"
        with file.open("rb") as content:
            for number in range(-(-begun["size"] // begun["part_bytes"])):
                part = content.read(begun["part_bytes"])
                headers = {"Content-Digest": digest_field(hashlib.sha256(part).hexdigest())}
                self._again_and_again("PUT", f"{address}/parts/{number}", content=part, headers=headers)
        fields = {name: (None, value) for name, value in {**form, "upload": begun["id"]}.items()}
        answer = self._again_and_again(
            "POST", path, files=fields, headers={"Idempotency-Key": begun["id"]}, timeout=PUT_TOGETHER_SECONDS
        )
        self._http.delete(address)
        return answer

    def _again_and_again(self, method: str, path: str, **request: Any) -> Response:  # noqa: ANN401 - httpx's arguments
        """The answer, once there is one. Raises: httpx.TransportError, ServiceProblem after the last try."""
        for wait in TRIES_AFTER:
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError:
                time.sleep(wait)
                continue
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return _checked(answer)
            time.sleep(float(answer.headers.get("Retry-After", wait)))
        return _checked(self._http.request(method, path, **request))

    def _submit(
        self,
        path: str,
        model: str,
        dataset: str,
        spec: FinetuneSpec | AuditSpec,
        idempotency_key: str | None,
        terms: Terms,
    ) -> JobResource:
        about = to_jsonable_python({"model": model, "dataset": dataset, **terms})
        body = {**spec.model_dump(mode="json"), **about}
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return JobResource.model_validate_json(_checked(self._http.post(path, json=body, headers=headers)).content)


class _Deadline:
    """A moment after which nothing is waited for."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._at = None if seconds is None else time.monotonic() + seconds

    def sleep(self, seconds: float) -> None:
        """Wait. Raises: TimeoutError when the moment has passed."""
        if self._at is not None and time.monotonic() >= self._at:
            raise TimeoutError(f"it took longer than {self._seconds:g} s")
        time.sleep(seconds)


def _checked(answer: Response) -> Response:
    """The answer of a request that was not refused. Raises: ServiceProblem."""
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
    """The events of a stream. Ours have one line of data each."""
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield EventResource.model_validate(json.loads(line.removeprefix("data: ")))
