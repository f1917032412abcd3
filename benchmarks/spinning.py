"""Measure how OpenMP threads should wait, with two of them: on a quiet machine, and beside a program that keeps one core busy.

    python -m benchmarks.spinning [--quick] [--rounds N]

The work is training steps with PGD-10 on 128 images, and PGD-10 on 16 images, as at the end of an audit. Each measurement is a
process of its own, because the OpenMP runtime reads its variables once. A round runs every setting, in a new order; with
`--quick` one round runs the default and FAAL's setting on a sixth of the work. Ratios
are medians over rounds of seconds with the setting to seconds with the runtime's default in the same round. The last line
is JSON.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys

THREADS = 2
SETTINGS = {
    "default": {},
    "spin 10000": {"GOMP_SPINCOUNT": "10000"},
    "spin 1000": {"GOMP_SPINCOUNT": "1000"},
    "spin 0": {"GOMP_SPINCOUNT": "0"},
}
WORK = """
import sys, time, torch
from torch.nn.functional import cross_entropy
from faal_core.networks import build
from faal_core.specs import ClassifierSpec

torch.set_num_threads({threads})
kind, count = sys.argv[1], int(sys.argv[2])
classifier = build(ClassifierSpec(architecture="small_resnet", num_classes=10)).place(torch.device("cpu"))
optimizer = torch.optim.SGD(classifier.parameters(), lr=0.0)
generator = torch.Generator().manual_seed(0)
images = classifier.lay_out(torch.rand(128, 1, 28, 28, generator=generator))
labels = torch.randint(10, (128,), generator=generator)

def attack(size, steps):
    classifier.eval()
    x = images[:size]
    for _ in range(steps):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(classifier(x), labels[:size]), x)
        x = (x + 0.01 * gradient.sign()).clamp(0, 1)
    return x.detach()

def train():
    x_adv = attack(128, 10)
    classifier.train()
    optimizer.zero_grad()
    cross_entropy(classifier(x_adv), labels).backward()
    optimizer.step()

work = train if kind == "training" else lambda: attack(16, 10)
work()
start = time.perf_counter()
for _ in range(count):
    work()
print(time.perf_counter() - start)
"""
QUICK_SETTINGS = ("default", "spin 1000")
COUNTS = {"training": 6, "attack": 20}
BUSY = "while True: pass"


def run(kind: str, setting: dict[str, str], count: int) -> float:
    """Return the seconds of the work in a new process."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    environment |= setting | {"OMP_NUM_THREADS": str(THREADS)}
    command = [sys.executable, "-c", WORK.replace("{threads}", str(THREADS)), kind, str(count)]
    result = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return float(result.stdout)


def measure_round(kind: str, count: int, names: tuple[str, ...], *, busy: bool) -> dict[str, float]:
    """Return the seconds of each setting that is named."""
    program = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    try:
        order = random.sample(names, len(names))
        return {name: run(kind, SETTINGS[name], count) for name in order}
    finally:
        if program is not None:
            program.kill()
            program.wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rounds, part, names = (1, 6, QUICK_SETTINGS) if options.quick else (options.rounds, 1, tuple(SETTINGS))
    figures: dict[str, object] = {"rounds": rounds, "threads": THREADS}
    for kind, count in COUNTS.items():
        for busy in (False, True):
            seconds = [measure_round(kind, count // part, names, busy=busy) for _ in range(rounds)]
            for name in names:
                title = f"{kind}, {'one core busy' if busy else 'quiet'}, {name}"
                figures[title] = round(statistics.median(one[name] / one["default"] for one in seconds), 3)
                print(
                    f"{title}: {statistics.median(one[name] for one in seconds):.2f} s, ratio {figures[title]}",
                    flush=True,
                )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
