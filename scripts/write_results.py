"""Write the tables of docs/results/fairness.md from the measurements in benchmarks/results; a test compares the two.

Each table is between `<!-- begin NAME -->` and `<!-- end NAME -->`; NAME.jsonl has its measurements.
"""

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.fairness import BASELINE, summarise
from scripts.write_reference import table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/results/fairness.md"
_PLACE = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
_COLUMNS = ("method", "seeds", "clean", "robust, mean", "worst two classes", "worst class", "minutes")


def with_tables(page: str) -> str:
    """Return the page with the tables of today's measurements."""
    return _PLACE.sub(lambda match: f"{match[1]}{result_table(match[2])}{match[3]}", page)


def result_table(name: str) -> str:
    """Return the table of one file of measurements, best worst class first. Raises: ValueError for several experiments."""
    lines = (ROOT / f"benchmarks/results/{name}.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    if len({row["of"] for row in rows}) != 1:
        raise ValueError(f"{name}.jsonl has no experiment, or several.")
    return table((*_COLUMNS, f"{BASELINE} is above it by", "p"), (cells(row) for row in summarise(rows)))


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of one method: mean and, over several seeds, standard deviation, in percent; minutes as they are."""
    several = row["seeds"] > 1
    shown = [
        f"{100 * row[name]:.1f}" + (f" ± {100 * row[f'{name}_sd']:.1f}" if several else "")
        for name in ("clean", "mean", "tail_20", "worst")
    ]
    minutes = f"{row['minutes']:.0f}" if "minutes" in row else ""
    if "behind" not in row:
        return row["method"], str(row["seeds"]), *shown, minutes, "", ""
    low, high = (f"{100 * bound:+.1f}" for bound in row["behind_interval"])
    p_value = "< 0.001" if row["p"] < 0.001 else f"{row['p']:.3f}"
    return row["method"], str(row["seeds"]), *shown, minutes, f"{100 * row['behind']:+.1f} ({low} to {high})", p_value


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
