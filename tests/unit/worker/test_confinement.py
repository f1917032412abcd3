"""A confined function has only its inputs: limited memory, time and disk, no secrets and no network."""

import os
import socket
import subprocess
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from faal_core.errors import DatasetInvalid, OutOfMemory, WeightsMismatch, WeightsUnreadable
from faal_core.progress import Cancelled, NoProgress
from faal_core.specs import MAX_CLASSES
from faal_core.specs.class_names import MAX_COLUMNS, MAX_GROUPS, MAX_NAME_LENGTH
from faal_core.weights import read_classifier
from worker import confinement as confinement_module
from worker.confinement import Confinement, ReadingInterrupted
from worker.warm_process import ForkClient, WarmProcess

FUNCTIONS = "tests.unit.worker.confined_functions"
SOURCE = Path("/some/file")
SECRET = "postgresql+psycopg://someone:a-password@host/db"
MAY_UNSHARE = subprocess.run(["unshare", "--user", "--net", "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module", params=["of the warm process", "of a new process"], autouse=True)
def forks(request: pytest.FixtureRequest) -> Iterator[ForkClient | None]:
    """Yield what the tests' confined functions start from."""
    global _forks  # noqa: PLW0603 - the tests call plain functions
    if request.param == "of a new process":
        _forks = None
        yield None
        return
    environment = {**os.environ, "FAAL_DATABASE_URL": SECRET}
    with WarmProcess(["worker.upload_reading"], environment) as warm:
        job = warm.client.start(
            "tests.unit.worker.forked_functions:hold", environment=environment, process_name="faal-job"
        )
        _forks = warm.client
        yield _forks
        job.close()


_forks: ForkClient | None = None


def confinement(folder: Path, **changes: object) -> Confinement:
    """Return generous limits with the changes."""
    limits = {"seconds": 60, "memory": 2**30, "file_bytes": 2**20, "progress": NoProgress()} | changes
    return Confinement(folder=folder, forks=_forks, **limits)


def call(limits_of_call: Confinement, function: str, *arguments: object, module: str = FUNCTIONS) -> object:
    """Return the answer of one of the functions; a refusal is DatasetInvalid."""
    return limits_of_call.call(f"{module}:{function}", SOURCE, *arguments, refusal=DatasetInvalid)


def test_answer_comes_back(tmp_path):
    """The function gets folder, source and arguments, and its answer is returned."""
    answer = call(confinement(tmp_path), "describe", 1, {"a": [True, None]})
    assert answer["folder"] == str(tmp_path)
    assert answer["source"] == str(SOURCE)
    assert answer["arguments"] == [1, {"a": [True, None]}]


def test_the_largest_summary_comes_back(tmp_path):
    """The summary of a data set with the most classes and groups, and the longest names, arrives whole."""
    answer = call(confinement(tmp_path, memory=2**33, file_bytes=2**30), "summarise")
    assert len(answer["class_names"]) == MAX_CLASSES
    assert set(map(len, answer["class_names"])) == {MAX_NAME_LENGTH}
    assert [len(names) for names in answer["groups"].values()] == [MAX_GROUPS] * MAX_COLUMNS


def test_secrets_stay_outside(tmp_path, monkeypatch):
    """The worker's settings, which may hold passwords, are not in the environment."""
    monkeypatch.setenv("FAAL_DATABASE_URL", "postgresql+psycopg://someone:secret@host/db")
    assert not any(name.startswith("FAAL_") for name in call(confinement(tmp_path), "describe")["environment"])


def test_memory_holds_no_secrets(tmp_path):
    """The password in the environment of worker and jobs is nowhere in the memory of the confined process."""
    places = call(confinement(tmp_path), "search_memory", SECRET[:12], SECRET[12:])
    assert places == []
    assert call(confinement(tmp_path), "search_memory", "tests.unit.w", "orker.confined") != []


def test_no_file_is_open(tmp_path):
    """The confined process has its log and no other open file or socket: none of worker, job or warm process."""
    assert call(confinement(tmp_path), "list_descriptors") == [0, 1, 2]


def test_errors_keep_their_class(tmp_path):
    """An error of the library arrives as the same class with the same message."""
    with pytest.raises(WeightsMismatch, match="these weights are for another network"):
        call(confinement(tmp_path), "refuse")


def test_errors_can_be_told(tmp_path):
    """A message that quotes a file arrives at a bounded length and can be written as UTF-8."""
    with pytest.raises(WeightsMismatch) as refusal:
        call(confinement(tmp_path), "quote")
    assert refusal.value.message.encode().startswith(b"\\ud800xxx")
    assert len(refusal.value.message) < 3000


@pytest.mark.parametrize("share", [0.25, 1])
def test_memory_is_limited(tmp_path, share):
    """A function can allocate a quarter of its memory limit; the whole limit on top of the interpreter's memory fails."""
    limits_of_call = confinement(tmp_path)
    if share == 1:
        with pytest.raises(OutOfMemory, match="more than 1 GiB of memory"):
            call(
                limits_of_call, "allocate", limits_of_call.memory + 2**28
            )  # what libraries have given back has room too
    else:
        assert call(limits_of_call, "allocate", limits_of_call.memory // 4) == limits_of_call.memory // 4


def test_time_is_limited(tmp_path):
    """A function that never returns is killed when its processor time is used up."""
    with pytest.raises(DatasetInvalid, match="more than 1 s"):
        call(confinement(tmp_path, seconds=1), "loop")


def test_what_libraries_take_does_not_count(tmp_path):
    """With libraries that map 12 GiB and take 1.5 s to import, an upload still gets 1 GiB and 1 s."""
    module = "tests.unit.worker.confined_beside_large_libraries"
    assert call(confinement(tmp_path, seconds=1), "allocate", 2**24, module=module) == 2**24
    limits_of_call = confinement(tmp_path)
    with pytest.raises(OutOfMemory, match="more than 1 GiB of memory"):
        call(limits_of_call, "allocate", 2 * limits_of_call.memory, module=module)


def test_the_smallest_limit_is_enough_for_a_small_upload(tmp_path):
    """With torch loaded, the smallest memory limit of the settings is enough to convert the bundled classifier."""
    with as_file(files("faal_core") / "bundled/classifier.safetensors") as weights:
        spec = read_classifier(weights).spec.model_dump(mode="json")
        limits_of_call = confinement(tmp_path, memory=2**28, file_bytes=2**28)
        read = limits_of_call.call("worker.upload_reading:convert_model", weights, spec, refusal=WeightsUnreadable)
    assert read["spec"] == spec


def test_a_failing_import_is_no_refusal(tmp_path):
    """A missing library is no refusal of the file, whatever it contains."""
    with pytest.raises(ReadingInterrupted, match="did not start"):
        call(confinement(tmp_path), "describe", module="tests.unit.worker.confined_without_a_library")


@pytest.mark.parametrize(("kills", "error"), [((3, 4), OutOfMemory), ((3, 3), ReadingInterrupted)])
def test_a_kill_is_no_lack_of_time(tmp_path, monkeypatch, kills, error):
    """A kill from outside is not reported as a timeout; where the system counts a kill, it is reported as lack of memory."""
    counts = iter(kills)
    monkeypatch.setattr(confinement_module, "count_kills", lambda: next(counts))
    with pytest.raises(error):
        call(confinement(tmp_path), "end_as_by_the_system")


def test_waiting_is_limited(tmp_path):
    """A function that uses no processor time is killed after four times its limit."""
    with pytest.raises(DatasetInvalid, match="more than 1 s"):
        call(confinement(tmp_path, seconds=1), "wait")


def test_files_are_limited(tmp_path):
    """A file larger than allowed cannot be written."""
    with pytest.raises(DatasetInvalid, match="crashed"):
        call(confinement(tmp_path), "write", 2**20 + 1)
    call(confinement(tmp_path), "write", 2**20)


def test_crash_is_a_refusal(tmp_path):
    """A parser that crashes the process is reported as a refusal of the file."""
    with pytest.raises(DatasetInvalid, match="crashed the process"):
        call(confinement(tmp_path), "crash")


def test_what_it_writes_is_logged_line_by_line(tmp_path, caplog, capfd):
    """A defect's traceback is written to the worker's log, which escapes names from files, and not to its stderr."""
    with pytest.raises(DatasetInvalid, match="crashed"):
        call(confinement(tmp_path), "complain")
    assert "the process that reads the upload wrote: ValueError: in the file \x1b[2J" in caplog.messages
    assert "the process that reads the upload wrote: forged" in caplog.messages
    assert capfd.readouterr().err == ""


def test_long_answers_are_refused(tmp_path):
    """An answer of megabytes is refused."""
    with pytest.raises(DatasetInvalid):
        call(confinement(tmp_path, file_bytes=2**30), "talk")


@pytest.mark.skipif(not MAY_UNSHARE, reason="this system lets no process leave its network")
def test_network_is_out_of_reach(tmp_path):
    """A server on this machine cannot be reached."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert call(confinement(tmp_path), "connect", server.getsockname()[1]) == "OSError"


def test_cancellation_ends_it(tmp_path):
    """A cancelled check stops."""

    class CancelledProgress(NoProgress):
        def advance(self, count: int = 1) -> None:
            raise Cancelled

    with pytest.raises(Cancelled):
        call(confinement(tmp_path, progress=CancelledProgress()), "loop")
