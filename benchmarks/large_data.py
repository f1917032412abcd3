"""Audit more images than memory should hold: kill the audit twice, resume it, compare, and measure its memory.

    python benchmarks/large_data.py [--images N] [--side N] [--seed N] [--folder DIR] [--quick]

The script writes JPEG files into folders of 1,000 classes, half of them with the label that a small linear network gives
them. It starts `faal audit` and kills it while the images are decoded, then again while they are audited, at moments that
the seed draws. The same command then resumes and finishes. An undisturbed audit follows. Both must have the same report,
times apart, and the same results of every image. The memory is the largest resident set of each process, as the operating
system counts it; the same audit of the last image of each class measures the network's own. DIR needs 10 GB, which are freed
again. The last line is JSON.
"""

import argparse
import io
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from faal_core.classifier import Classifier
from faal_core.networks import build
from faal_core.specs import ClassifierSpec
from faal_core.weights import write_classifier

GROUPS, CELLS = 20, 14
NETWORK = f"""
from torch import nn

def pooled_linear(num_classes, channels):
    return nn.Sequential(nn.AdaptiveAvgPool2d({CELLS}), nn.Flatten(), nn.Linear(channels * {CELLS}**2, num_classes))
"""
CHECK_SECONDS = 0.05


class Outcome(NamedTuple):
    """How a process ended: its exit status, its largest resident set in MiB, and its seconds."""

    status: int
    peak_mib: int
    seconds: float


def offer_network(site: Path) -> None:
    """Write the network as an architecture of the site, which `faal` finds by its entry point."""
    (site / "pooled.py").write_text(NETWORK)
    info = site / "pooled-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pooled\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[faal.architectures]\npooled = pooled:pooled_linear\n")
    sys.path.insert(0, str(site))


def write_images(folder: Path, classifier: Classifier, count: int, side: int, seed: int) -> None:
    """Write the images, and the groups of the classes; half of the images have the label that the network gives them."""
    generator, classes = np.random.default_rng(seed), classifier.num_classes
    for label in range(classes):
        (folder / str(label)).mkdir(parents=True)
    rows = "".join(f"{label},group {label * GROUPS // classes}\n" for label in range(classes))
    (folder / "class_groups.csv").write_text(f"class,group\n{rows}")
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (CELLS, CELLS, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BILINEAR).save(file, "JPEG", quality=80)
        label = number % classes
        if number // classes % 2:
            with Image.open(file) as image, torch.no_grad():
                pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
            label = int(classifier(pixels).argmax())
        (folder / str(label) / f"{number:06}.jpg").write_bytes(file.getvalue())


def audit_command(folder: Path, name: str, steps: int) -> list[str]:
    """Return the command that audits the images and writes into the folder of that name."""
    attack = {"type": "pgd", "steps": steps, "loss": "margin"}
    (folder / "spec.json").write_text(
        json.dumps({"threat": {"epsilon": "1/255"}, "attacks": [attack], "batch_size": 100})
    )
    out = folder / name
    return [
        *(sys.executable, "-m", "faal_core.cli", "audit", "--weights", str(folder / "net.safetensors")),
        *("--dataset", str(folder / "set"), "--cache", str(folder / "cache"), "--spec", str(folder / "spec.json")),
        *("--out", str(out), "--ledger", str(folder / f"{name}.ledger"), "--device", "cpu", "--name", "pooled"),
    ]


def run(command: list[str], site: Path, should_kill: Callable[[], bool] = lambda: False) -> Outcome:
    """Run the command to its end, or kill it as soon as `should_kill` says so."""
    paths = os.pathsep.join([str(site), str(Path(__file__).parents[1])])
    start = time.monotonic()
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.DEVNULL) as process:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                return Outcome(process.returncode, usage.ru_maxrss // 1024, time.monotonic() - start)
            if should_kill():
                process.send_signal(signal.SIGKILL)
            time.sleep(CHECK_SECONDS)


def read_results(folder: Path, name: str) -> tuple[Any, list[dict[str, Any]]]:
    """Return the report and the results of all batches, without times."""
    batches = [json.loads(line) for line in (folder / f"{name}.ledger").read_bytes().splitlines()]
    ordered = sorted((batch for batch in batches[1:]), key=lambda batch: (batch["attack"], batch["run"], batch["rows"]))
    return drop_times(json.loads((folder / name / "report.json").read_bytes())), drop_times(ordered)


def drop_times(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON value without the fields that hold times."""
    if isinstance(value, dict):
        return {key: drop_times(item) for key, item in value.items() if key not in ("seconds", "created_at", "resumed")}
    return [drop_times(item) for item in value] if isinstance(value, list) else value


def measure(folder: Path, images: int, side: int, classes: int, seed: int, steps: int) -> dict[str, Any]:
    """Return the figures of one run in the folder."""
    draw = random.Random(seed)
    site = folder / "site"
    site.mkdir()
    offer_network(site)
    torch.manual_seed(seed)
    normalisation = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    spec = ClassifierSpec.model_validate({"architecture": "pooled", "num_classes": classes, **normalisation})
    classifier = build(spec).eval()
    write_classifier(folder / "net.safetensors", classifier)
    start = time.monotonic()
    write_images(folder / "set", classifier, images, side, seed)
    print(f"{images:,} images written in {time.monotonic() - start:.0f} s", flush=True)

    decoded = images * 3 * side**2
    killed_at = (draw.randrange(decoded // 10, decoded), draw.randrange(images // 200, images * 5 // 400))

    def is_decoded() -> bool:
        return any(file.stat().st_size > killed_at[0] for file in (folder / "cache").glob("*.part"))

    def is_computed() -> bool:
        ledger = folder / "resumed.ledger"
        return ledger.exists() and ledger.read_bytes().count(b"\n") > killed_at[1]

    command = audit_command(folder, "resumed", steps)
    outcomes = [run(command, site, is_decoded), run(command, site, is_computed), run(command, site)]
    undisturbed = run(audit_command(folder, "undisturbed", steps), site)
    if [outcome.status for outcome in (*outcomes, undisturbed)] != [-signal.SIGKILL, -signal.SIGKILL, 0, 0]:
        raise SystemExit(f"unexpected exit statuses: {outcomes}, {undisturbed}")
    resumed, expected = (read_results(folder, name) for name in ("resumed", "undisturbed"))
    own = measure_own(folder, site, classes, steps)
    peak = max(outcome.peak_mib for outcome in (*outcomes, undisturbed))
    report = expected[0]
    return {
        "images": images,
        "decoded_mib": decoded // 2**20,
        "killed_at_mib": killed_at[0] // 2**20,
        "killed_at_batch": killed_at[1],
        "batches": len(expected[1]),
        "seconds": [round(outcome.seconds) for outcome in (*outcomes, undisturbed)],
        "peaks_mib": [outcome.peak_mib for outcome in (*outcomes, undisturbed)],
        "own_mib": own,
        "beside_mib": peak - own,
        "clean": report["clean"]["mean"]["rate"],
        "robust": report["robust"]["mean"]["rate"],
        "groups": [len(table["groups"]) for table in report["groups"]],
        "equal_reports": resumed[0] == expected[0],
        "equal_batches": resumed[1] == expected[1],
    }


def measure_own(folder: Path, site: Path, classes: int, steps: int) -> int:
    """Return the memory of the same audit of one image for each class, in MiB."""
    small = folder / "small"
    for label in range(classes):
        (small / "set" / str(label)).mkdir(parents=True)
        shutil.copy(max((folder / "set" / str(label)).iterdir()), small / "set" / str(label))
    shutil.copy(folder / "set/class_groups.csv", small / "set")
    shutil.copy(folder / "net.safetensors", small)
    outcome = run(audit_command(small, "own", steps), site)
    if outcome.status:
        raise SystemExit(f"unexpected exit status: {outcome}")
    return outcome.peak_mib


def main() -> None:
    """Print one JSON object at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--steps", type=int, default=1, help="steps of the attack")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the images and the cache are written")
    parser.add_argument("--quick", action="store_true", help="2,000 images of 64 × 64 in 200 classes")
    arguments = parser.parse_args()
    images, side, classes = (2000, 64, 200) if arguments.quick else (arguments.images, arguments.side, 1000)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        row = measure(Path(folder), images, side, classes, arguments.seed, arguments.steps)
    equal = row["equal_reports"] and row["equal_batches"]
    print(
        f"{row['images']:,} images, {row['decoded_mib']:,} MiB decoded: killed twice and resumed, "
        f"{'the same results' if equal else 'OTHER RESULTS'}; {max(row['peaks_mib']):,} MiB at most, {row['own_mib']:,} MiB of "
        f"them for the network and its batches alone"
    )
    versions = {"python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    print(json.dumps({"benchmark": "large_data", "machine": platform.machine(), **versions, **row}))
    if not equal:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
