"""Install the project and the packages of one lock into a virtual environment, and report progress every ten seconds.

The Makefile runs it as `python -m scripts.install .venv demo`. Torch's small build for CPUs is installed where pip already has it
(`find-links`), or where the machine has no NVIDIA GPU and PyTorch's index of CPU builds can be reached. Otherwise PyPI's build is
installed, which on Linux contains CUDA.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.request import Request, urlopen

from scripts.lock import CPU_INDEX, CPU_WHEELS, LOCKS, ROOT, TORCH

ANSWER_SECONDS = 5.0  # within which PyTorch's index must answer
REPORT_SECONDS = 10.0  # between two lines of progress
GIGABYTE = 1e9
# A line in pip's output.
LARGE_DOWNLOAD = re.compile(r"Downloading (?:\S*/)?([\w.]+)-([\w.]+)(?:\+|%2B|-)\S* (\([\d.]+ [MG]B\))")
CPU_GIGABYTES = {"demo": 1.4, "dev": 2.1}  # size of the environment with torch's build for CPUs, by lock
CUDA_GIGABYTES = 4.0  # what torch's build with CUDA adds
DOWNLOADS = 0.25  # space for downloaded archives during the installation, as a fraction of the final size


class Installation:
    """A virtual environment while packages are installed into it.

    Args:
        folder: of the environment; created if missing.
        gigabytes: the environment's expected size after the installation.
    """

    def __init__(self, folder: Path, gigabytes: float) -> None:
        self.folder = folder
        self.gigabytes = gigabytes
        self._begin = time.monotonic()
        self._written = 0.0
        self._temporary = folder / "tmp"  # counted with the environment, so that downloads show as progress, too

    def create(self) -> None:
        """Create the environment, or update one that exists."""
        subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)
        self._temporary.mkdir(exist_ok=True)

    def pip(self, *arguments: str | Path, required: bool = True) -> bool:
        """Run `pip install`, print its downloads and a line of progress every ten seconds; return whether it succeeded.

        Raises: SystemExit when a `required` call fails.
        """
        command: list[str | Path] = [
            self._python,
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-deps",
            "--progress-bar=off",
        ]
        environment = {**os.environ, "TMPDIR": str(self._temporary.resolve()), "PYTHONUNBUFFERED": "1"}
        errors = None if required else subprocess.DEVNULL
        ended = threading.Event()
        reporter = threading.Thread(target=self._report, args=(ended,))
        reporter.start()
        try:
            with subprocess.Popen(
                [*command, *arguments], stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, cwd=ROOT
            ) as process:
                for line in process.stdout or ():
                    if step := describe_step(line):
                        print(f"  {step}", flush=True)
        finally:
            ended.set()
            reporter.join()
        if required and process.returncode:
            raise SystemExit(f"pip failed with exit status {process.returncode}; its message is above.")
        return process.returncode == 0

    def is_complete(self) -> bool:
        """Return whether every installed package has what it depends on."""
        check = subprocess.run([self._python, "-m", "pip", "check"], check=False, capture_output=True)
        return check.returncode == 0

    def link_service_command(self) -> None:
        """Link the command `faal-service`, which belongs to the checkout and not to the package."""
        link = self._python.with_name("faal-service")
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT / "scripts/faal-service")

    def finish(self) -> None:
        """Delete temporary files and print size and duration."""
        shutil.rmtree(self._temporary, ignore_errors=True)
        print(f"Installed: {self._size():.1f} GB in {self.folder}, {duration(self._seconds())}.", flush=True)

    @property
    def _python(self) -> Path:
        return (self.folder / "bin" / "python").absolute()

    def _seconds(self) -> float:
        return time.monotonic() - self._begin

    def _size(self) -> float:
        """Return the gigabytes of the environment's files."""
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                try:
                    total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - 40,000 files each time
                except OSError:  # pip deleted it meanwhile
                    continue
        return total / GIGABYTE

    def _report(self, ended: threading.Event) -> None:
        while not ended.wait(REPORT_SECONDS):
            self._written = max(self._written, self._size())  # pip deletes downloads once they are installed
            print(f"  {progress_line(self._written, self.gigabytes * (1 + DOWNLOADS), self._seconds())}", flush=True)


def main() -> None:
    """Install what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m scripts.install", description="Install the project's packages.")
    parser.add_argument("folder", type=Path, help="of the virtual environment")
    parser.add_argument("lock", choices=[*CPU_GIGABYTES], help="the packages: a file in requirements/")
    arguments = parser.parse_args()
    install(arguments.folder, arguments.lock)


def install(folder: Path, lock: str) -> None:
    """Install torch, the packages of that lock and the project into the environment `folder`."""
    installation = Installation(folder, CPU_GIGABYTES[lock])
    print(f"Installing FAAL's packages into {folder}, once.", flush=True)
    installation.create()
    if not install_cpu_torch(installation) and sys.platform == "linux":
        installation.gigabytes += CUDA_GIGABYTES
        print(f"Torch is installed with CUDA: {installation.gigabytes:.1f} GB in all.", flush=True)
    else:
        print(f"Torch is installed for CPUs: {installation.gigabytes:.1f} GB in all.", flush=True)
    installation.pip("--require-hashes", *requirements(*TORCH, lock))
    if not installation.is_complete():
        installation.pip("--require-hashes", *requirements("cuda"))
    installation.pip("--no-build-isolation", "--editable", ".")
    installation.link_service_command()
    if not installation.is_complete():
        raise SystemExit(f"Packages are missing in {folder}. Run `{folder}/bin/python -m pip check` to list them.")
    installation.finish()


def install_cpu_torch(installation: Installation) -> bool:
    """Install torch's build for CPUs if there is no GPU and the build is available; return whether it is installed."""
    if installation.pip("--require-hashes", "--no-index", *requirements("torch"), required=False):
        return True
    if sys.platform != "linux" or has_nvidia_gpu():
        return False
    packages = [package for package in TORCH if has_cpu_hash(package)]
    if "torch" not in packages:
        print(f"requirements/ has no hash of torch for CPUs and Python {python_tag()}.", flush=True)
        return False
    print(f"No NVIDIA GPU was found. Looking for torch's build for CPUs at {CPU_INDEX} …", flush=True)
    if not is_reachable(f"{CPU_INDEX}/torch/"):
        print(f"The index did not respond within {ANSWER_SECONDS:.0f} seconds.", flush=True)
        return False
    if installation.pip("--require-hashes", "--index-url", CPU_INDEX, *requirements(*packages), required=False):
        return True
    print("Torch's build for CPUs could not be installed.", flush=True)
    return False


def requirements(*locks: str) -> list[str | Path]:
    """Return pip's arguments that name those locks."""
    return [argument for lock in locks for argument in ("--requirement", LOCKS / f"{lock}.txt")]


def has_nvidia_gpu() -> bool:
    """Return whether NVIDIA's driver is on this machine."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def has_cpu_hash(package: str) -> bool:
    """Return whether the locks hold the hash of the package's CPU build for this Python and this processor."""
    names = [line.split()[1] for line in CPU_WHEELS.read_text().splitlines()]
    return any(
        name.startswith(f"{package}-") and f"-{python_tag()}-" in name and name.endswith(f"{platform.machine()}.whl")
        for name in names
    )


def python_tag() -> str:
    """Return the tag of this Python in the names of wheels, such as cp312."""
    return f"cp{sys.version_info.major}{sys.version_info.minor}"


def is_reachable(url: str) -> bool:
    """Return whether a server responds within `ANSWER_SECONDS`, including the look-up of its name."""
    successes: list[bool] = []

    def ask() -> None:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=ANSWER_SECONDS):
                successes.append(True)
        except OSError:  # no such name, no connection, or an error status
            successes.append(False)

    asking = threading.Thread(target=ask, daemon=True)  # a look-up of a name has no time limit of its own
    asking.start()
    asking.join(ANSWER_SECONDS)
    return successes == [True]


def describe_step(line: str) -> str | None:
    """Return what a line of pip's output reports: a large download, the beginning of an installation, or None."""
    if download := LARGE_DOWNLOAD.search(line):
        return "Downloading {} {} {}".format(*download.groups())
    if line.startswith("Installing collected packages:"):
        count = line.count(",") + 1
        return f"Installing {count} package{'s' if count > 1 else ''}"
    return None


def progress_line(gigabytes: float, expected: float, seconds: float) -> str:
    """Describe the gigabytes written so far, the seconds that took, and the time left at the same pace."""
    remaining = seconds * max(0.0, expected - gigabytes) / gigabytes if gigabytes else 0.0
    estimate = f", about {duration(remaining)} left" if remaining >= 1 else ""
    return f"{gigabytes:.2f} of about {expected:.1f} GB written, {duration(seconds)} so far{estimate}"


def duration(seconds: float) -> str:
    """Return seconds as "40 s" or "2 min 40 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


if __name__ == "__main__":
    main()
