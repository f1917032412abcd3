"""The installation: the build of torch that it chooses, and its output."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from scripts import install
from scripts.lock import CPU_WHEELS


class FakeInstallation(install.Installation):
    """Records pip's arguments; an installation from the disk alone fails, others succeed."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"), 1.0)
        self.calls: list[str] = []

    def pip(self, *arguments: str | Path, required: bool = True) -> bool:
        """Record the call; return whether it would have succeeded."""
        self.calls.append(" ".join(Path(argument).name for argument in arguments))
        return required or "--no-index" not in arguments


class Answer(BaseHTTPRequestHandler):
    """Answers with an empty page."""

    def do_HEAD(self) -> None:
        """Answer 200."""
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nowhere."""


@pytest.fixture
def index() -> Iterator[str]:
    """Yield the address of a server that answers."""
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """Change this machine so that it seems to have no GPU and the lock holds both CPU builds for its Python."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(install, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(install, "python_tag", lambda: "cp312")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


@pytest.mark.usefixtures("linux")
def test_the_cpu_build_is_taken_from_its_index(monkeypatch: pytest.MonkeyPatch, index: str) -> None:
    """Torch and torchvision come from PyTorch's index, with their hashes."""
    monkeypatch.setattr(install, "CPU_INDEX", index)
    installation = FakeInstallation()
    assert install.install_cpu_torch(installation)
    assert installation.calls[-1] == (
        f"--require-hashes --index-url {Path(index).name} --requirement torch.txt --requirement torchvision.txt"
    )


@pytest.mark.usefixtures("linux")
def test_without_the_index_the_usual_build_follows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An index that does not answer is asked once, for a few seconds, and the output reports it."""
    monkeypatch.setattr(install, "CPU_INDEX", "http://127.0.0.1:1")
    installation = FakeInstallation()
    begin = time.monotonic()
    assert not install.install_cpu_torch(installation)
    assert time.monotonic() - begin < install.ANSWER_SECONDS + 1
    assert len(installation.calls) == 1
    assert "did not respond" in capsys.readouterr().out


@pytest.mark.usefixtures("linux")
@pytest.mark.parametrize(("name", "value"), [("has_nvidia_gpu", True), ("python_tag", "cp300")])
def test_the_index_is_not_asked_in_vain(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    """A machine with a GPU, and a Python whose CPU build has no hash in the lock, take the usual build."""
    monkeypatch.setattr(install, name, lambda: value)
    monkeypatch.setattr(install, "is_reachable", lambda url: pytest.fail(f"{url} was asked"))
    assert not install.install_cpu_torch(FakeInstallation())


def test_every_torch_build_with_a_hash_is_recognised() -> None:
    """The names of the wheels in the file of hashes are recognised."""
    assert all(name.endswith(("x86_64.whl", "aarch64.whl")) for name in CPU_WHEELS.read_text().split()[1::2])


def test_progress_lines_hold_sizes_and_estimates() -> None:
    """A quarter of the expected size in 20 s leaves a minute; there is no estimate before the first byte or past the end."""
    assert install.progress_line(0.4, 1.6, 20.0) == "0.40 of about 1.6 GB written, 20 s so far, about 1 min 0 s left"
    assert install.progress_line(0.0, 1.6, 10.0) == "0.00 of about 1.6 GB written, 10 s so far"
    assert install.progress_line(1.7, 1.6, 100.0) == "1.70 of about 1.6 GB written, 1 min 40 s so far"


@pytest.mark.parametrize(
    ("line", "step"),
    [
        (
            "  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (526.6 MB)\n",
            "Downloading torch 2.13.0 (526.6 MB)",
        ),
        (
            "Downloading https://x/whl/torch-2.13.0%2Bcpu-cp311-cp311-linux.whl (1.8 GB)",
            "Downloading torch 2.13.0 (1.8 GB)",
        ),
        ("  Downloading idna-3.20-py3-none-any.whl (69 kB)\n", None),
        ("Installing collected packages: numpy, scipy, torch\n", "Installing 3 packages"),
        ("Installing collected packages: faal\n", "Installing 1 package"),
    ],
)
def test_large_steps_of_pip_are_shown(line: str, step: str | None) -> None:
    """Downloads of a megabyte or more are shown with their size, and an installation with its number of packages."""
    assert install.describe_step(line) == step
