"""Prose, docstrings and names keep to the word list in `tests/words.py`."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.words import NAMES_IN_ED, NO_NAMES, RULES, VERBS, VERBS_IN_ED, VERBS_WITH_FOR, Rule

ROOT = Path(__file__).parents[1]
CODE = ("faal_core", "faal_client", "jobs", "api", "worker", "migrations", "scripts", "benchmarks", "tests")
LISTS = {ROOT / "tests" / "words.py", Path(__file__)}  # quote the phrases that they reject
TEMPLATES = ("api/pages/templates", "faal_core/evidence/templates", "faal_core/reports/templates")
LAST_OLD_DECISION = "0020"  # records up to this one are history and stay as they were written
FEWEST_SPACES = 2  # of a string that is prose
EXPRESSIONS = [(rule, rule.expression()) for rule in RULES]


def own_files() -> Iterator[Path]:
    """Yield each file that the word list applies to: all but the lists themselves."""
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md"))
    for page in sorted((ROOT / "docs").rglob("*.md")):
        if page.parent.name != "decisions" or page.name[:4] > LAST_OLD_DECISION:
            yield page
    for folder in TEMPLATES:
        yield from sorted((ROOT / folder).rglob("*.html"))
    for folder in CODE:
        yield from (file for file in sorted((ROOT / folder).rglob("*.py")) if file not in LISTS)


def failures_in(path: str, text: str) -> list[str]:
    """Return what the file's text says against the rules, each as `path:line: text: rule`."""
    if path.endswith(".py"):
        tree = ast.parse(text)
        proses = [*string_literals(tree), *comments(text)]
        others = [*docstring_failures(tree), *name_failures(tree, Path(path).stem)]
    else:
        proses, others = [(1, without_code(text) if path.endswith(".md") else without_markup(text))], []
    phrases = [
        (line + prose.count("\n", 0, match.start()), match[0].strip(), f"{rule.reason}; write: {rule.instead}")
        for line, prose in proses
        for rule, expression in EXPRESSIONS
        for match in expression.finditer(prose)
    ]
    return [f"{path}:{line}: “{' '.join(found.split())}”: {why}" for line, found, why in sorted({*phrases, *others})]


def string_literals(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of each string that is prose: docstrings, messages, descriptions; an f-string without its values."""
    inside = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [str(v.value) if isinstance(v, ast.Constant) else "x" for v in node.values]
            text = "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            text = node.value
        else:
            continue
        if text.count(" ") >= FEWEST_SPACES:
            yield node.lineno, without_inline_code(text)


def comments(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each comment, except instructions to tools."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and "noqa" not in token.string:
            yield token.start[0], f" {without_inline_code(token.string)}"


def without_inline_code(text: str) -> str:
    """Return the text with each character between backticks replaced by x."""
    return re.sub(r"`[^`\n]+`", lambda match: "x" * len(match[0]), text)


def without_code(page: str) -> str:
    """Return a Markdown page without code and headings; lines keep their numbers."""
    blank = re.sub(r"^```.*?^```", lambda match: "\n" * match[0].count("\n"), page, flags=re.MULTILINE | re.DOTALL)
    return without_inline_code(re.sub(r"^#.*$", "", blank, flags=re.MULTILINE))


def without_markup(template: str) -> str:
    """Return a template's text without tags, expressions, styles and scripts; lines keep their numbers."""
    hidden = r"<(style|script)\b.*?</\1>|\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<[^>]*>"
    return re.sub(hidden, lambda match: "\n" * match[0].count("\n") or " ", template, flags=re.DOTALL)


def docstring_failures(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Yield each docstring of a function or method, except a test's, that does not begin with a verb of the list.

    A test's docstring states in a sentence what must hold.
    """
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and not node.name.startswith("test_")
            and (words := (ast.get_docstring(node) or "").split())
        ):
            noun = len(words) > 1 and (
                words[1] in {"of", "on"} or (words[1] == "for" and words[0] not in VERBS_WITH_FOR)
            )
            if words[0].rstrip(",.;:") not in VERBS or noun:
                beginning = " ".join(words[:4])
                yield (
                    node.body[0].lineno,
                    beginning,
                    "a docstring begins with a verb; write: Return …, Store …, Check …",
                )


def name_failures(tree: ast.Module, module: str) -> Iterator[tuple[int, str, str]]:
    """Yield each public name that is a lone participle or preposition."""
    for line, name, is_function in [(1, module, False), *public_names(tree)]:
        participle = is_function and name.endswith("ed") and "_" not in name and name not in VERBS_IN_ED | NAMES_IN_ED
        if name in NO_NAMES or participle:
            yield line, name, "a name is a noun or, of a function, a verb; write: what it is, what it does"


def public_names(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """Yield line and name of each public function, parameter and attribute, and whether it is a function."""
    bodies = [tree.body, *(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    for statement in (statement for body in bodies for statement in body):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            is_property = any(isinstance(own, ast.Name) and own.id == "property" for own in statement.decorator_list)
            yield statement.lineno, statement.name, not is_property
            if not statement.name.startswith("_"):
                arguments = statement.args
                yield from (
                    (own.lineno, own.arg, False)
                    for own in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
                )
        elif isinstance(statement, ast.AnnAssign | ast.Assign):
            targets = [statement.target] if isinstance(statement, ast.AnnAssign) else statement.targets
            yield from ((target.lineno, target.id, False) for target in targets if isinstance(target, ast.Name))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            yield node.lineno, node.attr, False


def test_words() -> None:
    """No file has a turn of phrase, a docstring or a name that the word list rejects."""
    failures = [
        failure
        for file in own_files()
        for failure in failures_in(file.relative_to(ROOT).as_posix(), file.read_text("utf-8"))
    ]
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.instead)
def test_rules_are_complete(rule: Rule) -> None:
    """A rule compiles, matches no empty text, and gives reason and replacement."""
    assert rule.expression().search("") is None
    assert rule.reason
    assert rule.instead


@pytest.mark.parametrize(
    ("path", "text", "line", "part"),
    [
        ("docs/x.md", "# Jobs\n\nThe job goes\non later.\n", 3, "“goes on”"),
        ("docs/x.md", "One. What is\nrefused is an error.\n", 1, "“What”"),
        ("x.html", "<p\nclass=x>The job is told\n", 2, "“is told”"),
        ("x.py", 'raise ValueError("a file\\n"\n  f"lies in {x} now")\n', 2, "“lies”"),
        ("x.py", 'def f():\n    """The value."""\n', 2, "“The value.”"),
        ("x.py", 'def f():\n    """Name of the value."""\n', 2, "“Name of the value.”"),
        ("x.py", "class A:\n    told: int\n", 2, "“told”"),
        ("x.py", "def of(x): ...\n", 1, "“of”"),
        ("x.py", "def checked(x): ...\n", 1, "“checked”"),
        ("x.py", "def f(kept): ...\n", 1, "“kept”"),
        ("x.py", "# a comment that stands here\n", 1, "“stands”"),
        ("at.py", "", 1, "“at”"),
    ],
)
def test_failures_are_noticed(path: str, text: str, line: int, part: str) -> None:
    """A failure names file, line and text."""
    (failure,) = failures_in(path, text)
    assert failure.startswith(f"{path}:")
    assert part in failure
    assert abs(int(failure.split(":")[1]) - line) <= 1  # a string of several lines counts from its first


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("docs/x.md", "# What it is\n\nWhat is FAAL? It withstands much, `told`.\n\n```\nit goes on\n```\n"),
        ("x.html", "<style>p { told }</style>{# is told #}{{ job.told }}<p>The job ended.</p>"),
        (
            "x.py",
            '"""A module."""\nclass A:\n    """A noun phrase."""\n    def seed(self) -> int:\n        """Return 1."""\n',
        ),
        ("x.py", 'def f():\n    """Wait for the end."""\n'),
        ("x.py", 'def test_f():\n    """The job ends."""\n'),
        ("x.py", 'x: str = "at of told"[0]\ndef f(x):\n    found = x\n    return found\n'),
    ],
)
def test_good_text_passes(path: str, text: str) -> None:
    """Questions, code, markup, local names and plain sentences break no rule."""
    assert failures_in(path, text) == []
