"""`python -m api.commands.demo`: upload, fine-tune and download over HTTP, with a service that only the demo uses.

The demo fine-tunes the bundled classifier on the bundled images, and saves the report and the new weights.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file
from pathlib import Path

import httpx
from rich.console import Console

from api.commands.stage_display import report_wait, show_stage
from api.uploads.bundled import CLASSIFIER, DATASET, EPSILON, IMAGES, NAME
from faal_client import Client, ServiceProblem, UploadRejected
from faal_client.resources.objects import EventResource
from faal_core.reports import terminal
from faal_core.results.documents import AttackRow, AuditReport
from faal_core.results.finetune_documents import EpochRow, FinetuneReport
from faal_core.specs import AuditSettings, FinetuneSpec
from faal_core.threat_model import ThreatModel

SPEC = FinetuneSpec(threat=ThreatModel(epsilon=EPSILON), audit=AuditSettings(images=IMAGES))
"""The defaults of `faal finetune` and of the start form, except fewer test images, so that the demo takes some minutes."""

START_SECONDS = 60.0  # for the service to answer
END_SECONDS = 2.0  # a service that is killed closes its connections a moment before it has ended
STOP_SECONDS = 60.0  # for the service and its worker to end
ROWS: dict[str, type[AttackRow] | type[EpochRow]] = {"attack": AttackRow, "epoch": EpochRow}

console = Console(highlight=False, markup=False, soft_wrap=True)


class ServiceFailed(Exception):
    """The demo's own service did not start; the message ends with the last lines of its log."""


def main() -> int:
    """Run the demo and return its exit status: 0 when the results are saved, 130 after Ctrl-C, 1 with a message otherwise."""
    parser = argparse.ArgumentParser(
        prog="python -m api.commands.demo", description="Fine-tune a classifier through the service."
    )
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for the results")
    out: Path = parser.parse_args().out
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console.print(
        "The demo starts the service, uploads the bundled classifier, audits it, fine-tunes it for "
        f"{SPEC.training.epochs} epochs, and audits it again."
    )
    try:
        with service() as url, Client(url) as client:
            console.print(f"The service listens on {url}.")
            report = finetune(client, out)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    except (ServiceFailed, ServiceProblem, UploadRejected, httpx.TransportError) as error:
        console.print(str(error))
        return 1
    console.print(f"\n{terminal.summary(report)}\n")
    console.print(f"Open {(out / 'report.html').resolve()} in a browser to read the report.")
    console.print(f"{out.resolve()} also holds the report as JSON and, where the classifier changed, its new weights.")
    return 0


def finetune(client: Client, out: Path) -> FinetuneReport:
    """Fine-tune the bundled classifier, save the report and any new weights in `out`, and return the report."""
    with as_file(CLASSIFIER) as file:
        with report_wait(console, f"Uploading the bundled classifier, {file.stat().st_size / 1e6:.1f} MB"):
            model = client.upload_model(file, name=NAME)
        with report_wait(console, f"A worker checks the upload {model.id}"):
            model = client.wait_until_ready(model)
    job = client.submit_finetune(model.id, DATASET, SPEC)
    console.print(f"Fine-tuning on {DATASET} against {SPEC.threat}: {job.id}.")
    report = follow(client, job.id)
    result_model = client.job(job.id).result_model
    if not isinstance(report, FinetuneReport):
        raise TypeError(f"{job.id} made no fine-tuning report")
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(report.model_dump_json(indent=2), "utf-8")
    (out / "report.html").write_text(client.report_page(job.id), "utf-8")
    if result_model is not None:
        client.download_weights(result_model, out / "weights.safetensors")
    return report


def follow(client: Client, job_id: str) -> AuditReport | FinetuneReport:
    """Print a line for each finished attack and epoch and show the stage between them; return the report at the end."""
    with show_stage(console, client, job_id):
        for event in client.events(job_id):
            if line := event_line(event):
                console.print(line)
    return client.report(job_id)


def event_line(event: EventResource) -> str | None:
    """Return a finished attack or epoch as a line, and None for any other event."""
    if event.kind not in ROWS:
        return None
    fields = {name: value for name, value in event.body.items() if name != "stage"}
    return terminal.row_line(event.body["stage"], ROWS[event.kind].model_validate(fields))


@contextmanager
def service() -> Iterator[str]:
    """Start a service with a worker and yield its address; stop both after the block and delete what they stored.

    Raises: ServiceFailed.
    """
    with tempfile.TemporaryDirectory(prefix="faal-demo-") as folder:
        log = Path(folder, "log")
        port = _free_port()
        own = {"FAAL_DATA_DIR": folder, "FAAL_HOST": "127.0.0.1", "FAAL_PORT": str(port)}
        removed = {"FAAL_DATABASE_URL", "FAAL_BROKER_URL", "FAAL_STORE_URL"}
        inherited = {name: value for name, value in os.environ.items() if name not in removed}
        command = [sys.executable, "-m", "api", "--with-worker"]
        with (
            log.open("wb") as output,
            subprocess.Popen(  # noqa: S603 - our own module
                command, env=inherited | own, stdout=output, stderr=output, start_new_session=True
            ) as process,
        ):
            try:
                with report_wait(console, f"Starting the service and its worker; the log is {log}"):
                    _await_ready(process, f"http://127.0.0.1:{port}", log)
                yield f"http://127.0.0.1:{port}"
            except httpx.TransportError as error:
                try:
                    status = process.wait(END_SECONDS)
                except subprocess.TimeoutExpired:
                    raise error from None
                raise ServiceFailed(f"The service ended with exit status {status}:\n{_last_lines(log)}") from error
            finally:
                _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until the service is ready. Raises: ServiceFailed when it ends or does not answer in time."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz").is_success:
                return
        except httpx.TransportError:
            pass  # the service does not listen yet
        time.sleep(0.2)
    raise ServiceFailed(f"The service did not start:\n{_last_lines(log)}")


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text("utf-8").splitlines()[-20:])


if __name__ == "__main__":
    sys.exit(main())
