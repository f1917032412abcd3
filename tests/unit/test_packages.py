"""The wheel: its content and metadata, and fresh environments that it is installed into."""

import shutil
import subprocess
import sys
import tomllib
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = list(PROJECT["optional-dependencies"])
PUBLIC = EXTRAS[: EXTRAS.index("all") + 1]  # the later ones are for the service and for development
OLDEST = ROOT / "requirements/oldest.constraints"
LIBRARY, SERVICE = ("faal_core", "faal_client"), ("api", "jobs", "worker", "migrations")
# What the client alone may bring: httpx, pydantic and NumPy, and the packages that these need.
LIGHT = {
    "annotated-types", "anyio", "certifi", "faal", "h11", "httpcore", "httpx", "idna", "numpy", "pydantic", "pydantic-core",
    "typing-extensions", "typing-inspection",
}  # fmt: skip
AUDIT = """
import sys
from importlib.resources import files
import faal_core as faal

classifier = faal.read_classifier(files("faal_core") / "bundled/classifier.safetensors")
result = faal.audit(classifier, faal.load("fashion-mnist-subset", "test"), epsilon=0.1, attacks="quick", subset=10)
result.save(sys.argv[1])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the checkout, with the packages of the service."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in (*LIBRARY, *SERVICE):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("wheel")
    _run_pip(
        Path(sys.executable), "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", target, source
    )
    (built,) = target.glob("*.whl")
    return built


def _run_pip(python: Path, *arguments: str | Path) -> str:
    command: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def _install(folder: Path, wheel: Path, extra: str) -> Path:
    """Install the wheel with an extra into a fresh environment; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin/python"
    _run_pip(python, "install", "--quiet", f"{wheel}{extra}")
    return python


def _list_site_packages(python: Path) -> set[str]:
    (folder,) = python.parents[1].glob("lib/python*/site-packages")
    return {path.name for path in folder.iterdir()}


def _read_metadata(wheel: Path) -> dict[str, list[str]]:
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        message = Parser().parsestr(archive.read(name).decode())
    return {
        field: message.get_all(field) or []
        for field in ("Requires-Dist", "Provides-Extra", "Requires-Python", "Version")
    }


def test_the_wheel_has_the_library_and_the_client_alone(wheel: Path):
    """All modules, templates, types and bundled files of the two packages are in the wheel, and nothing of the service."""
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = [
            archive.read(name).decode() for name in archive.namelist() if name.endswith("entry_points.txt")
        ]
    expected = {
        str(path.relative_to(ROOT))
        for package in LIBRARY
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == expected
    assert {f"{package}/py.typed" for package in LIBRARY} <= names
    assert entry_points.split() == ["[console_scripts]", "faal", "=", "faal_core.cli:main"]


def test_the_metadata_has_light_requirements(wheel: Path):
    """Without extras the package needs NumPy and pydantic, and with the client httpx and its event loop."""
    metadata = _read_metadata(wheel)
    requirements = [Requirement(line) for line in metadata["Requires-Dist"]]
    names = {
        extra: {one.name for one in requirements if (one.marker is None or one.marker.evaluate({"extra": extra}))}
        for extra in ("", "client")
    }
    assert names == {"": {"numpy", "pydantic"}, "client": {"anyio", "httpx", "numpy", "pydantic"}}
    assert metadata["Provides-Extra"] == EXTRAS
    assert metadata["Version"] == [PROJECT["version"]]


def test_the_version_is_the_same_everywhere():
    """pyproject.toml, the library and CITATION.cff have one version."""
    import faal_core

    assert faal_core.__version__ == PROJECT["version"]
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_lower_bounds_are_those_that_were_tested():
    """Each lower bound of the library and its extras is the version in requirements/oldest.constraints."""
    lines = [*PROJECT["dependencies"], *(line for extra in PUBLIC for line in PROJECT["optional-dependencies"][extra])]
    bounds = {
        canonicalize_name(one.name): next(Version(part.version) for part in one.specifier if part.operator == ">=")
        for one in map(Requirement, lines)
        if one.name != "faal"
    }
    pins = [line.split("==") for line in OLDEST.read_text("utf-8").splitlines() if "==" in line]
    assert {canonicalize_name(name): Version(version) for name, version in pins} == bounds


def test_the_client_needs_no_service_and_specs_no_computations():
    """Importing the client, specs and documents brings no package of the service, and none that computes or draws."""
    program = (
        "import sys, faal_client.client, faal_client.async_client, faal_core.specs, faal_core.results.documents; "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    unwanted = {*SERVICE, "altair", "celery", "fastapi", "jinja2", "scipy", "sqlalchemy", "torch", "typer"}
    assert unwanted & set(answer.stdout.split()) == set()


@pytest.mark.parametrize("package", ["typer", "torch"])
def test_the_command_names_the_extra_that_is_missing(package: str, tmp_path: Path):
    """Without the packages of the extra `cli` the command prints one sentence and no traceback."""
    command = [
        "faal",
        "audit",
        "--weights",
        "faal_core/bundled/classifier.safetensors",
        "--dataset",
        "fashion-mnist-subset",
    ]
    command += ["--epsilon", "0.1", "--out", str(tmp_path / "audit")]
    program = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = {command}; from faal_core.cli import main; main()"
    )
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    sentence = f"faal: the command needs {package}, which is not installed. Run pip install 'faal[cli]'.\n"
    assert (answer.returncode, answer.stderr) == (1, sentence)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fresh_environments(wheel: Path, tmp_path: Path):
    """A fresh environment audits in Python; the client alone brings httpx, pydantic and NumPy, and nothing of the service.

    Needs an index of packages. Where pip finds no build of torch for CPUs this installs 6 GB.
    """
    client = _install(tmp_path / "client", wheel, "[client]")
    listed = _run_pip(client, "list", "--format=freeze", "--exclude", "pip", "--exclude", "setuptools")
    assert {canonicalize_name(line.partition("==")[0]) for line in listed.split()} <= LIGHT
    assert not _list_site_packages(client) & set(SERVICE)
    subprocess.run([client, "-c", "import faal_client; faal_client.Client('http://faal.test')"], check=True)
    bare = subprocess.run([client.with_name("faal"), "audit"], capture_output=True, text=True, check=False)
    assert (bare.returncode, bare.stderr.count("\n"), "faal[cli]" in bare.stderr) == (1, 1, True)

    python = _install(tmp_path / "torch", wheel, "[torch]")
    assert not _list_site_packages(python) & set(SERVICE)
    subprocess.run([python, "-c", AUDIT, tmp_path / "audit"], cwd=tmp_path, check=True)
    assert "Some charts are left out" in (tmp_path / "audit/report.html").read_text("utf-8")
