"""The demo: a real service with its worker, which runs until the end of its block."""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from api.commands import demo
from faal_core import weights
from faal_core.reports import html
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.reading import read_report
from faal_core.specs import FinetuneSpec
from tests.service.small_jobs import UNBOUNDED


def processes_with(text: str) -> list[int]:
    """Return the ids of the processes whose environment holds that text."""
    ids = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and text.encode() in (folder / "environ").read_bytes():
                ids.append(int(folder.name))
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return [process for process in ids if process != os.getpid()]


def test_the_service_ends_with_its_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service answers inside its block; afterwards no process or file of it is left, though the block was interrupted."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with suppress(KeyboardInterrupt), demo.service() as url:
        assert httpx.get(f"{url}/readyz").json() == {"status": "ready"}
        assert len(processes_with(str(tmp_path))) >= 2
        raise KeyboardInterrupt
    assert processes_with(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error contains the last lines of the service, here about a wrong setting."""
    monkeypatch.setenv("FAAL_DEVICE", "abacus")
    with pytest.raises(demo.ServiceFailed, match="abacus"), demo.service():
        pass


def test_a_service_that_ends_too_early_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the service was killed, the error gives its exit status and its last lines."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def kill_and_ask(url: str) -> None:
        for process in processes_with(str(tmp_path)):
            os.kill(process, signal.SIGKILL)
        for _ in range(100):
            httpx.get(f"{url}/readyz")
            time.sleep(0.1)

    with pytest.raises(demo.ServiceFailed, match=r"exit status -9:\n.+"), demo.service() as url:
        kill_and_ask(url)


@pytest.mark.slow
def test_the_demo_repairs_the_bundled_classifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo saves the report, its page and the fine-tuned weights, and prints the verdict."""
    training = {"learning_rates": [0.001], "attack": {"steps": 1}, **UNBOUNDED}
    body = {"threat": {"epsilon": 0.1}, "training": training, "audit": {"images": 100, "attacks": "quick"}}
    monkeypatch.setattr(demo, "SPEC", FinetuneSpec.model_validate(body))
    monkeypatch.setattr(sys, "argv", ["demo", "--out", str(tmp_path)])
    assert demo.main() == 0
    report = read_report((tmp_path / "report.json").read_bytes())
    assert isinstance(report, FinetuneReport)
    assert (tmp_path / "report.html").read_text("utf-8") == html.render(report)
    assert weights.digest(weights.read_classifier(tmp_path / "weights.safetensors")) == report.after.classifier.sha256
    output = capsys.readouterr().out
    assert "before: PGD-10 (cross-entropy): " in output
    assert "epoch 1: loss " in output
    assert "the accuracy of the worst class went from" in output
