"""Runs of Weights & Biases in offline mode: the files of a run have all that was exported."""

import json
import re
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from faal_core.errors import InvalidSpec
from faal_core.exports.metric_keys import ascii_keys
from faal_core.exports.metrics import audit_metrics, finetune_metrics
from faal_core.exports.wandb import log_report
from faal_core.threat_model import ThreatModel
from tests.hostile_names import HOSTILE_NAMES
from tests.sample_reports import sample_audit, sample_finetune
from tests.wandb_offline import wandb_offline

SORTABLE = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")  # names that Weights & Biases sorts and filters by
WAITS = 60  # seconds for the last record of a run, on a busy machine
BLOCK, HEADER = 32768, 7  # bytes of a block of the run's file, and of each chunk's header; 7 bytes begin the file


@pytest.fixture(autouse=True, scope="module")
def _offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the package from the network, and all its files in a folder of these tests; it reads its settings once."""
    with wandb_offline(tmp_path_factory.mktemp("wandb")):
        yield


def read_records(folder: Path) -> list[Record]:
    """Return the records of the run in the folder, once the package has written the last one."""
    (file,) = folder.glob("run-*.wandb")
    deadline = time.monotonic() + WAITS
    while True:
        records = parse_log(file.read_bytes())
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        assert time.monotonic() < deadline, records
        time.sleep(0.05)


def parse_log(data: bytes) -> list[Record]:
    """Return the complete records of a run's log, which has LevelDB's format."""
    place, message, records = HEADER, b"", []
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:  # the rest of a block is too short for a header
            place += BLOCK - place % BLOCK
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + HEADER])
        if place + HEADER + length > len(data):
            break
        message += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in {1, 4}:  # a whole record, or its last chunk
            records.append(Record.FromString(message))
            message = b""
    return records


def list_updates(records: list[Record], kind: str) -> Iterator[dict[str, Any]]:
    """Yield the values of each record of history or summary by name."""
    for record in records:
        if record.WhichOneof("record_type") == kind:
            part = getattr(record, kind)
            yield {
                item.key or ".".join(item.nested_key): json.loads(item.value_json)
                for item in (part.item if kind == "history" else part.update)
            }


def test_a_run_has_numbers_settings_table_and_files():
    """An audit with hostile names becomes a run with sortable metrics, a table of classes and an artifact with the report."""
    report = sample_audit(HOSTILE_NAMES, [0.5] * len(HOSTILE_NAMES))
    folder = Path(log_report(report, project="robustness", run_name="one"))
    records = read_records(folder)
    (numbers,) = list_updates(records, "history")
    expected = {"_".join(path): value for path, value in audit_metrics(report, ascii_keys).items()}
    assert expected.items() <= numbers.items()
    assert all(SORTABLE.fullmatch(name) for name in expected)
    (started,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    config = {item.key: json.loads(item.value_json) for item in started.config.update}
    assert (config["epsilon"], config["classifier_sha256"]) == ("0.1", report.classifier.sha256)
    assert (started.project, started.display_name, started.job_type) == ("robustness", "one", "faal")
    summary = {name: value for update in list_updates(records, "summary") for name, value in update.items()}
    assert summary["first_look"] == "true"
    (table,) = folder.glob("files/media/table/classes*.table.json")
    written = json.loads(table.read_text())
    assert written["columns"][:3] == ["metric_key", "class", "images"]
    assert [row[1] for row in written["data"]] == list(HOSTILE_NAMES)
    artifacts = [record.artifact for record in records if record.WhichOneof("record_type") == "artifact"]
    (own,) = [artifact for artifact in artifacts if artifact.type == "faal-report"]
    files = {entry.path: Path(entry.local_path) for entry in own.manifest.contents}
    assert files.keys() == {"report.json", "report.html", "classes.csv"}
    assert files["report.json"].read_text("utf-8") == report.model_dump_json(indent=2)
    kinds = {record.WhichOneof("record_type") for record in records}
    assert kinds & {"environment", "stats", "output", "output_raw"} == set()  # of this machine
    assert not (folder / "files/requirements.txt").exists()


def test_radii_are_drawn_over_the_radius():
    """Several radii are steps of one run, smallest first."""
    report = sample_audit()
    spec = report.spec.model_copy(update={"threat": ThreatModel(epsilon=0.05)})
    folder = Path(log_report(report, report.model_copy(update={"spec": spec}), project="robustness"))
    steps = [numbers["epsilon"] for numbers in list_updates(read_records(folder), "history")]
    assert steps == [0.05, 0.1]


def test_a_fine_tuning_has_its_epochs_beside_the_callers_run(tmp_path: Path):
    """The run of a fine-tuning has its epochs and changes, and leaves the run open that the caller has."""
    report = sample_finetune()
    with wandb.init(project="own", dir=tmp_path) as own:
        folder = Path(log_report(report, project="robustness"))
        assert wandb.run is own
        own.log({"still": 1})
    history = list(list_updates(read_records(folder), "history"))
    assert [numbers["training_loss"] for numbers in history[:3]] == [row.loss for row in report.epochs]
    expected = {"_".join(path): value for path, value in finetune_metrics(report, ascii_keys).items()}
    assert expected.items() <= history[3].items()


def test_a_refusal_is_an_error_of_the_connection(monkeypatch: pytest.MonkeyPatch):
    """An error of the package becomes one that a command can print."""

    def refuse(**_options: object) -> None:
        raise wandb.errors.CommError("no such entity")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(ConnectionError, match="no such entity"):
        log_report(sample_audit(), project="robustness")


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    """Without wandb the message names the extra."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InvalidSpec, match=r"pip install 'faal\[wandb\]'"):
        log_report(sample_audit(), project="robustness")
