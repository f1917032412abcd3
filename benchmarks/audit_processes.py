"""Time audits by processes of one thread against one process with all threads, in pairs within one run.

    python -m benchmarks.audit_processes [--quick] [--busy] [--reference FOLDER]

The baseline computes as versions without processes did: batches of 250 images in one process with all threads. Each network is
audited in turn by both, `--pairs` times; the ratio is that of the medians. Both must end with the same outcomes. `--busy` keeps
one core busy with another program. `--reference` names a folder with further networks, as `FAAL_REFERENCE_DATA` does for tests:
robust/, cifar10-test.npz and mnist-test.npz. The last line is one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from faal_core.auditing.evaluation import evaluate
from faal_core.auditing.evaluator import Evaluator
from faal_core.auditing.parallelism import choose_batch_size, count_cores
from faal_core.auditing.processes import Executors
from faal_core.classifier import Classifier
from faal_core.datasets import load
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.progress import NoProgress
from faal_core.results.image_outcomes import Evaluation
from faal_core.results.ledger import Ledger
from faal_core.specs import AuditSpec
from faal_core.threat_model import ThreatModel
from faal_core.weights import read_classifier

_BUSY = "while True: pass"
Subject = tuple[Classifier, LabelledImages, str]


def read_bundled() -> Subject:
    classifier = read_classifier(Path(str(files("faal_core") / "bundled/classifier.safetensors")))
    return classifier, load("fashion-mnist-subset", "test"), "0.1"


def read_reference(name: str, epsilon: str, folder: Path) -> Subject:
    from tests import robust_networks

    reference = getattr(robust_networks, name)
    return reference.classifier(folder), reference.images(), epsilon


def list_subjects(reference: Path | None, folder: Path) -> dict[str, Callable[[], Subject]]:
    """Return what reads each network with its images and radius."""
    subjects: dict[str, Callable[[], Subject]] = {"bundled": read_bundled}
    if reference is not None:
        os.environ["FAAL_REFERENCE_DATA"] = str(reference)
        from tests import robust_networks

        robust_networks.install(folder / "site")
        sys.path.insert(0, str(folder / "site"))
        for name, variable, epsilon in (
            ("resnet4b", "RESNET4B", "2/255"),
            ("cnn_a_adv", "CNN_A", "2/255"),
            ("SmallCNN", "TRADES", "0.3"),
        ):
            subjects[name] = partial(read_reference, variable, epsilon, folder)
    return subjects


def audit(
    classifier: Classifier, data: LabelledImages, spec: AuditSpec, processes: int | None
) -> tuple[float, Evaluation]:
    """Return the seconds of an audit and its outcomes; without processes it is computed as the baseline."""
    evaluator = Evaluator(classifier, data, device=torch.device("cpu"), batch_size=spec.batch_size, seed=spec.seed)
    size = spec.batch_size if processes is None else choose_batch_size(evaluator)
    start = time.perf_counter()
    evaluation, _ = evaluate(
        evaluator,
        spec.threat,
        spec.attacks,
        NoProgress(),
        Ledger(None, "", batch_size=size),
        open_executor=Executors(processes or 1),
    )
    return time.perf_counter() - start, evaluation


def compare(subject: Subject, attacks: str, images: int, pairs: int, processes: int) -> dict[str, float]:
    """Return the medians of both, their ratio, and the number of images whose outcomes differ."""
    classifier, data, epsilon = subject
    data = data.take(data.stratified(images, 0))
    spec = AuditSpec(threat=ThreatModel(epsilon=epsilon), attacks=attacks)
    threads, parts, differences = [], [], 0
    for _ in range(pairs):
        seconds, one = audit(classifier, data, spec, None)
        threads.append(seconds)
        seconds, other = audit(classifier, data, spec, processes)
        parts.append(seconds)
        differences = max(differences, int(np.sum(one.broken_by != other.broken_by)))
    before, after = statistics.median(threads), statistics.median(parts)
    return {
        "threads_s": round(before, 2),
        "processes_s": round(after, 2),
        "ratio": round(before / after, 2),
        "differences": differences,
    }


def main() -> None:
    """Print one line a network, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one pair on 100 images of the bundled network, PGD-20")
    parser.add_argument("--busy", action="store_true", help="keep one core busy with another program")
    parser.add_argument("--reference", type=Path, help="folder with further networks")
    parser.add_argument("--processes", type=int, default=count_cores())
    parser.add_argument("--attacks", default="fast", help="a preset")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--only", action="append", help="names of networks")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.attacks, arguments.images, arguments.pairs = "pgd-20", 100, 1
    other = subprocess.Popen([sys.executable, "-c", _BUSY]) if arguments.busy else None
    results = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name, read in list_subjects(arguments.reference, Path(folder)).items():
                if arguments.only and name not in arguments.only:
                    continue
                results[name] = compare(
                    read(), arguments.attacks, arguments.images, arguments.pairs, arguments.processes
                )
                print(f"{name:12} {results[name]}", flush=True)
    finally:
        if other is not None:
            other.kill()
    settings = {"processes": arguments.processes, "threads": torch.get_num_threads(), "busy": arguments.busy}
    settings |= {
        "attacks": arguments.attacks,
        "images": arguments.images,
        "pairs": arguments.pairs,
        "torch": torch.__version__,
    }
    print(json.dumps({"settings": settings, "results": results}))


if __name__ == "__main__":
    main()
