"""Epochs become lines in the units of the drawing."""

from api.pages.curves import HEIGHT, WIDTH, Epoch, curves


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
    assert lines["worst"].points == ((0, HEIGHT), (WIDTH / 2, 0.75 * HEIGHT), (WIDTH, 0))
    assert lines["worst"].path == f"0.0,{HEIGHT}.0 {WIDTH / 2},{0.75 * HEIGHT} {WIDTH}.0,0.0"
    assert "mean" not in lines


def test_one_epoch_is_a_point() -> None:
    """A single epoch, and an empty list, are drawn without a division by zero."""
    assert curves([epoch(1, 0.5)])[-1].points == ((0, HEIGHT / 2),)
    assert curves([]) == []
