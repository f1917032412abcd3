"""Write the sentences that summarise a table of methods, and its cells."""

from collections import Counter
from collections.abc import Callable, Sequence

from faal_core.reports.audit_text import caveat, name_attacks
from faal_core.reports.wording import sanitise, with_bounds, write_name
from faal_core.results.method_table_documents import MethodRow, MethodTable, SeedRow, SeedSummary
from faal_core.results.rate_text import percent, points
from faal_core.results.trust import doubtful_codes

LISTED_CLASSES = 3  # most worst classes in a cell


def summarise_methods(table: MethodTable) -> list[str]:
    """Return the findings as sentences: the best method, its cost of the mean, and the limits of the table."""
    best, given = table.methods[0], table.given_model.robust
    threat = ", ".join(
        filter(None, (name_attacks(table.given_model), str(table.given_model.spec.threat), caveat(table.given_model)))
    )
    rates = _with_range(best.robust_worst, best, percent)
    if best.robust_worst.mean > given.worst.value:
        finding = f"Under {threat}, the worst class is most robust after {best.name}: {rates}"
    else:
        finding = (
            f"Under {threat}, no method makes the worst class more robust on average; the best is {best.name}: {rates}"
        )
    changes = ", ".join(
        f"{kind} by {_with_range(change, best, points)} points"
        for kind, change in (
            ("the worst class's robust accuracy", best.robust_worst_change),
            ("mean robust accuracy", best.robust_mean_change),
            ("mean clean accuracy", best.clean_mean_change),
        )
    )
    sentences = [
        f"{finding}. In the given model it is {percent(given.worst.value)} ({write_name(given.worst_class)}).",
        f"{best.name} changes {changes}.",
        *_state_missing(table),
        *_state_doubts(table),
        *_state_cuts(table),
        *table.differences,
        "The order is no test: compare two fine-tunings to test a difference. The range of the seeds is no interval.",
    ]
    if any(len(row.seeds) == 1 for row in table.methods):
        sentences.append("A method with one seed shows no variation between seeds.")
    return sentences


def _state_missing(table: MethodTable) -> list[str]:
    """Return the sentence on fine-tunings without a report."""
    if not table.missing:
        return []
    total = table.fine_tunings + table.missing
    return [f"Without a report: {table.missing} of {total} fine-tunings of the study. The order may still change."]


def _state_doubts(table: MethodTable) -> list[str]:
    """Return the sentences on the given model and the fine-tunings whose robust rates may be far too high."""
    sentences = []
    if given := doubtful_codes(table.given_model):
        sentences.append(f"Robust rates of the given model may be far too high ({', '.join(given)}).")
    doubtful = [(row, seed) for row in table.methods for seed in row.seeds if seed.doubtful]
    if doubtful:
        codes = ", ".join(dict.fromkeys(code for _, seed in doubtful for code in seed.doubtful))
        some = _count_methods(table, [row for row, _ in doubtful])
        sentences.append(f"Robust rates of {some} may be far too high ({codes}).")
    return sentences


def _state_cuts(table: MethodTable) -> list[str]:
    """Return the sentence on fine-tunings whose training the time limit ended."""
    cut = [row for row in table.methods for seed in row.seeds if seed.epochs < row.spec.epochs]
    return [f"The time limit ended the training of {_count_methods(table, cut)} early."] if cut else []


def _count_methods(table: MethodTable, rows: Sequence[MethodRow]) -> str:
    """Return the number of fine-tunings by method, one for each item of `rows`: "2 of 9 fine-tunings, 2 by CFA (at),"."""
    counts = Counter(row.name for row in rows)
    listed = ", ".join(f"{number} by {name}" for name, number in counts.items())
    return f"{len(rows)} of {table.fine_tunings} fine-tunings, {listed},"


def tabulate_methods(table: MethodTable) -> list[list[str]]:
    """Return a row of cells for the given model and for each method, with the titles as the first row."""
    titles = [
        "method",
        "seeds",
        "worst class",
        "robust, worst class",
        "lowest bound",
        "robust, mean",
        "clean, mean",
        "worst class, change",
        "robust mean, change",
        "clean mean, change",
        "minutes",
    ]
    clean, robust = table.given_model.clean, table.given_model.robust
    given = [
        "given model",
        "–",
        write_name(robust.worst_class),
        percent(robust.worst.value),
        percent(robust.worst.low),
        percent(robust.mean.rate),
        percent(clean.mean.rate),
        *("–",) * 4,
    ]
    return [titles, given, *map(_list_cells, table.methods)]


def _list_cells(row: MethodRow) -> list[str]:
    rates = (_with_range(rate, row, percent) for rate in (row.robust_mean, row.clean_mean))
    changes = (row.robust_worst_change, row.robust_mean_change, row.clean_mean_change)
    return [
        sanitise(row.name),
        str(len(row.seeds)),
        _name_worst_classes(row),
        _with_range(row.robust_worst, row, percent),
        percent(row.robust_worst_low),
        *rates,
        *(_with_range(change, row, points) for change in changes),
        f"{row.minutes:.1f}",
    ]


def tabulate_seeds(table: MethodTable) -> list[list[str]]:
    """Return a row of cells for each fine-tuning, with its confidence intervals; the titles are the first row."""
    titles = ["method", "seed", "outcome", "worst class", "robust, worst class", "robust, mean", "clean, mean", "doubt"]
    return [titles, *(_list_seed_cells(row, seed) for row in table.methods for seed in row.seeds)]


def _list_seed_cells(row: MethodRow, seed: SeedRow) -> list[str]:
    return [
        sanitise(row.name),
        str(seed.seed),
        seed.outcome,
        write_name(seed.robust.worst_class),
        with_bounds(seed.robust.worst),
        with_bounds(seed.robust.mean),
        with_bounds(seed.clean.mean),
        ", ".join(seed.doubtful) or "–",
    ]


def _with_range(figure: SeedSummary, row: MethodRow, write: Callable[[float], str]) -> str:
    """Return the mean over the seeds with the lowest and the highest seed in brackets: "38.7 % [36.0 % to 41.2 %]"."""
    if len(row.seeds) == 1:
        return write(figure.mean)
    return f"{write(figure.mean)} [{write(figure.lowest)} to {write(figure.highest)}]"


def _name_worst_classes(row: MethodRow) -> str:
    """Return the worst classes of the seeds, the most frequent first."""
    names = [name for name, _ in Counter(seed.robust.worst_class for seed in row.seeds).most_common()]
    more = [f"{len(names) - LISTED_CLASSES} more"] if len(names) > LISTED_CLASSES else []
    return ", ".join([*map(write_name, names[:LISTED_CLASSES]), *more])
