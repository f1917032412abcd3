"""Epochs become lines in the units of the drawing."""

from datetime import UTC, datetime

from api.pages.curves import HEIGHT, WIDTH, Epoch, curves, curves_of_runs
from faal_client.resources.plans import PlanRunResource


def epoch(number: int, worst: float | None) -> Epoch:
    """Return an epoch with that accuracy of the worst class."""
    return Epoch(
        epoch=number,
        learning_rate=0.1,
        loss=1,
        validation_clean=1,
        validation_robust=None,
        validation_robust_worst=worst,
        seconds=1,
    )


def test_lines_run_from_left_to_right_and_accuracy_upwards() -> None:
    """The first epoch is at the left edge, the last at the right; 0 is at the bottom and 1 at the top."""
    lines = {curve.key: curve for curve in curves([epoch(1, 0), epoch(2, 0.25), epoch(3, 1)])}
    assert lines["worst"].segments == (((0, HEIGHT), (WIDTH / 2, 0.75 * HEIGHT), (WIDTH, 0)),)
    assert lines["worst"].paths == [f"0.0,{HEIGHT}.0 {WIDTH / 2},{0.75 * HEIGHT} {WIDTH}.0,0.0"]
    assert "mean" not in lines


def test_one_epoch_is_a_point() -> None:
    """A single epoch, and an empty list, are drawn without a division by zero."""
    assert curves([epoch(1, 0.5)])[-1].segments == (((0, HEIGHT / 2),),)
    assert curves([]) == []


def test_a_missing_value_is_a_gap() -> None:
    """Each value is at its epoch or run, and no line crosses those without a value."""
    worst = curves([epoch(i, value) for i, value in enumerate([None, 0, None, 1, 0.5])])[-1]
    x = WIDTH / 4
    assert worst.segments == (((x, HEIGHT),), ((3 * x, 0), (4 * x, HEIGHT / 2)))
    assert worst.last == 0.5


def test_runs_that_have_no_mean_do_not_move_the_others() -> None:
    """Runs from before the service stored means have a worst class alone; the means of later runs are above their own runs."""
    before = dict.fromkeys(PlanRunResource.model_fields) | {
        "job": "job_1",
        "model": "model_1",
        "trigger": "version",
        "worst_class": {"name": "bag", "rate": 0.5, "low": 0.4, "high": 0.6},
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    runs = [PlanRunResource.model_validate(before | {"robust_mean": mean}) for mean in (None, None, None, 1, 0)]
    mean, smallest = curves_of_runs(runs)
    assert mean.segments == (((0.75 * WIDTH, 0), (WIDTH, HEIGHT)),)
    assert [x for x, _ in smallest.segments[0]] == [0, WIDTH / 4, WIDTH / 2, 0.75 * WIDTH, WIDTH]
