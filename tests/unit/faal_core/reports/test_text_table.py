"""Tables as plain text."""

from faal_core.reports.text_table import NAME_WIDTH, text_table

ROWS = [["field", "meaning"], ["a.b", "the first word and the last"], ["wide 大", "x" * 300]]


def test_a_table_is_as_wide_as_its_cells() -> None:
    """Without a width, no cell is cut or folded, and no line ends in blanks."""
    assert text_table(ROWS) == ["field    meaning", "a.b      the first word and the last", f"wide 大  {'x' * 300}"]


def test_cells_are_folded_to_a_width() -> None:
    """A table of a given width folds its cells and keeps every word."""
    lines = text_table(ROWS[:2], width=20)
    assert max(map(len, lines)) <= 20
    assert " ".join(" ".join(lines).split()) == "field meaning a.b the first word and the last"


def test_numbers_are_aligned_to_the_right() -> None:
    """Numbers are aligned to the right, and a long name in the first column is cut to its width."""
    lines = text_table([["class", "robust"], ["n" * 99, "1 %"], ["b", "100.0 %"]], numeric=True)
    assert {len(line) for line in lines} == {NAME_WIDTH + len("  100.0 %")}
    assert lines[1].startswith("n" * (NAME_WIDTH - 1) + "…  ")


def test_no_cell_drives_the_terminal() -> None:
    """Control characters and markup in a cell are text."""
    (line,) = text_table([["\x1b[2J", "[red]a\nb[/red] :smile:"]])
    assert line == "\ufffd[2J  [red]a b[/red] :smile:"
