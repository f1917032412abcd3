"""Packs of strangers are refused clearly, without much memory or time."""

import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faal_core.evidence import verify_pack, write_pack
from faal_core.results.outcomes import read_outcomes
from faal_core.results.reading import read_report
from tests.evidence_packs import STATEMENT, forge, read_members, write_members, write_sample


@pytest.fixture(scope="module")
def sound_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pack without a signature, which no test changes."""
    folder = tmp_path_factory.mktemp("sound")
    write_sample(folder / "out")
    write_pack(folder / "pack.zip", folder / "out")
    return folder / "pack.zip"


@pytest.fixture
def pack(tmp_path: Path, sound_pack: Path) -> Path:
    """Return a copy of that pack."""
    return Path(shutil.copy(sound_pack, tmp_path / "pack.zip"))


def _refusal(pack: Path) -> str:
    """Return the first failed check and its sentence."""
    result = verify_pack(pack)
    assert not result.verified
    failed = next(check for check in result.checks if check.status == "failed")
    return f"{failed.name}: {failed.sentence}"


def _write_zip(
    path: Path, change: Callable[[zipfile.ZipFile, dict[str, bytes]], None], members: dict[str, bytes]
) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        change(archive, members)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "kind", ["duplicate", "outside", "link", "compressed", "folder", "extra field", "unsorted", "many"]
)
def test_archives_of_another_form_are_refused(pack: Path, kind: str) -> None:
    """Repeated names, names that lead outside, links, compression, folders and further fields are refused."""
    members = read_members(pack)

    def add(archive: zipfile.ZipFile, files: dict[str, bytes]) -> None:
        for name, content in sorted(files.items(), reverse=kind == "unsorted"):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, 0o644 << 16
            if kind == "compressed":
                info.compress_type = zipfile.ZIP_DEFLATED
            if kind == "extra field":
                info.extra = b"\x01\x02\x00\x00"
            archive.writestr(info, content)
        if kind == "duplicate":
            archive.writestr("report.json", b"{}")
        if kind == "outside":
            archive.writestr("../report.json", b"{}")
        if kind == "folder":
            archive.mkdir("folder")
        if kind == "many":
            for number in range(40):
                archive.writestr(f"{number}.txt", b"")
        if kind == "link":
            info = zipfile.ZipInfo("policy.yaml")
            info.create_system, info.external_attr = 3, 0o120777 << 16
            archive.writestr(info, b"report.json")

    _write_zip(pack, add, members)
    assert _refusal(pack).startswith("archive: The")


def test_a_zip_bomb_is_refused(pack: Path) -> None:
    """A member that unpacks to a thousand times its size is refused before it is unpacked."""
    with zipfile.ZipFile(pack, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("report.json", bytes(100 * 2**20))
    assert "more than 200 times its size" in _refusal(pack)


def test_claimed_sizes_are_not_believed(pack: Path) -> None:
    """A directory that claims a huge size or offset, and a zip64 locator, are refused before anything of that size is read."""
    content = pack.read_bytes()
    end = struct.Struct("<4s4H2LH")
    *start, directory, offset, comment = end.unpack(content[-22:])
    for record in (
        end.pack(*start, 2**32 - 1, offset, comment),
        end.pack(*start, directory, 2**32 - 1, comment),
        end.pack(*start[:3], 60_000, 60_000, directory, offset, comment),
        b"PK\6\7" + bytes(16) + end.pack(*start, directory, offset, comment),
    ):
        pack.write_bytes(content[:-22] + record)
        assert _refusal(pack).startswith("archive: The")


def test_an_encrypted_member_is_refused(pack: Path) -> None:
    """A member with the flag of encryption is refused."""
    content = bytearray(pack.read_bytes())
    for signature, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + place] |= 1
    pack.write_bytes(bytes(content))
    assert "encrypted" in _refusal(pack)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b"\xff\xfe",
        b"null",
        b"[]",
        b'{"kind": "audit"}',
        b'{"kind": ["audit"]}',
        b'{"kind": "audit", "kind": "audit"}',
        b'{"x": NaN}',
        b"1" * 5000,
    ],
    ids=lambda content: content[:8].decode("latin-1"),
)
@pytest.mark.parametrize("name", ["report.json", "spec.json", "environment.json", STATEMENT])
def test_odd_documents_are_refused(pack: Path, name: str, content: bytes) -> None:
    """Deep, malformed and wrong JSON in any document is refused with a sentence."""
    if name == STATEMENT:
        write_members(pack, read_members(pack) | {name: content})
    else:
        forge(pack, {name: content})
    if name == "environment.json" and content in (b"null", b"[]", b'{"kind": "audit"}', b'{"kind": ["audit"]}'):
        # Sound JSON of another version of FAAL, whose page cannot be written again; the statement names its digest.
        assert next(check for check in verify_pack(pack).checks if check.name == "page").status == "not-checked"
    else:
        assert _refusal(pack).partition(":")[0] in ("statement", "outcomes", "page")


@pytest.mark.parametrize(
    "statement",
    [
        {"predicate": {"faal": {"signer": None}}},
        {"predicate": {"faal": {"signer": None}}, "subject": 5},
        {"predicate": {"faal": {"signer": None}}, "subject": [{}, {"name": "report.json"}]},
        {"predicate": {"faal": {"signer": {"name": 5, "publicKey": "x"}}}},
        {"predicate": []},
    ],
)
def test_odd_statements_are_refused(pack: Path, statement: dict[str, object]) -> None:
    """A statement with fields of wrong types is refused with a sentence."""
    from faal_core.evidence import envelope

    write_members(pack, read_members(pack) | {STATEMENT: envelope.seal(statement, None)})
    assert _refusal(pack).partition(":")[0] in ("statement", "digests")


def _write_table(table: pa.Table, **options: object) -> bytes:
    file = BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def test_hostile_outcomes_are_refused(pack: Path) -> None:
    """Parquet files with strong compression, long texts, other types, other columns or other row counts are refused."""
    content = read_members(pack)["outcomes.parquet"]
    table = pq.read_table(BytesIO(content))
    rows = len(table)
    nested = pa.array([[1] * 1000] * rows)
    cases = {
        "compressed strongly": _write_table(table, compression="zstd"),
        "long text": _write_table(table.set_column(2, "class", pa.array(["x" * 10**6] * rows))),
        "many groups": _write_table(
            table.set_column(len(table.schema) - 1, "group camera", pa.array(map(str, range(rows))))
        ),
        "nested": _write_table(table.append_column("group nested", nested)),
        "more rows": _write_table(pa.concat_tables([table] * 2)),
        "very many rows": _write_table(pa.table({"label": pa.array(np.zeros(5_000_000, np.int64))})),
        "no rows": _write_table(table.slice(0, 0)),
        "another column": _write_table(table.append_column("verdict", pa.array(["safe"] * rows))),
        "another derived column": _write_table(table.set_column(5, "clean", pa.array([True] * rows))),
        "damaged": content[: len(content) // 2] + bytes(10) + content[len(content) // 2 + 10 :],
        "no Parquet": b"PAR1" + bytes(64) + b"PAR1",
        "empty": b"",
    }
    for case, other in cases.items():
        forge(pack, {"outcomes.parquet": other})
        assert _refusal(pack).startswith("outcomes: "), case


def test_contradictory_outcomes_are_refused(tmp_path: Path, pack: Path) -> None:
    """Outcomes whose values contradict each other are refused, also where the report names their digest."""
    from dataclasses import replace

    from faal_core.results.outcomes import Outcomes

    report = read_report(read_members(pack)["report.json"])
    (tmp_path / "o.parquet").write_bytes(read_members(pack)["outcomes.parquet"])
    sound = read_outcomes(tmp_path / "o.parquet", report)
    one = sound.evaluation
    broken = int(np.flatnonzero(one.broken_by >= 0)[0])
    whole = int(np.flatnonzero(one.robust)[0])

    def change(field: str, row: int, value: object) -> Outcomes:
        values = list(one.sha256) if field == "sha256" else getattr(one, field).copy()
        values[row] = value
        return replace(sound, evaluation=replace(one, **{field: tuple(values) if field == "sha256" else values}))

    cases = [
        change("labels", whole, 2**40),
        change("clean", whole, -1),
        change("broken_by", broken, 50),
        change("attacked", broken, one.labels[broken]),
        change("attacked", whole, (one.labels[whole] + 1) % 10),
        change("margin", whole, 1.5),
        change("margin", whole, float("nan")),
        change("distance", broken, 1.0),
        change("distance", broken, float("nan")),
        change("distance", whole, 0.01),
        change("sha256", broken, "abc"),
        change("sha256", whole, "0" * 64),
        replace(sound, rows=np.zeros_like(sound.rows)),
        replace(sound, rows=sound.rows - 5),
    ]
    for outcomes in cases:
        fitting = report.model_copy(update={"outcomes_sha256": outcomes.sha256})
        try:
            outcomes.write(tmp_path / "o.parquet", fitting)
        except (
            IndexError,
            OverflowError,
        ):  # the names of such a class or attack cannot be written: leave them as they were
            continue
        changes = {
            "report.json": fitting.model_dump_json().encode(),
            "outcomes.parquet": (tmp_path / "o.parquet").read_bytes(),
        }
        forge(pack, changes)
        assert "contradicts itself" in _refusal(pack) or "does not hold the outcomes" in _refusal(pack)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("classes.3.robust.count", 0),
        ("classes.3.robust.high", 1.0),
        ("classes.2.images", 99),
        ("clean.mean.rate", 0.99),
        ("robust.worst.value", 0.9),
        ("robust.worst.low", 0.4),
        ("robust.worst_class", "coat"),
        ("robust.gap_by_chance", 0.9),
        ("robust.verdict", "unequal"),
        ("groups.0.robust.worst.value", 1.0),
        ("confusion.0.count", 1),
        ("attacks.0.broken", 0),
        ("attacks.1.tried", 5),
        ("dataset.images", 10_000),
        ("first_look", False),
        ("adversarial_sha256", "0" * 64),
        ("spec.confidence", 0.9),
        ("spec.threat.epsilon", 0.09),
    ],
)
def test_numbers_that_do_not_follow_from_the_outcomes_are_refused(pack: Path, field: str, value: object) -> None:
    """A forger who changes one number of the report, and fits all digests, is refused with the name of the field."""
    report = json.loads(read_members(pack)["report.json"])
    *path, last = [int(step) if step.isdecimal() else step for step in field.split(".")]
    target = report
    for step in path:
        target = target[step]
    assert target[last] != value
    target[last] = value
    spec = json.dumps(report["spec"]).encode()
    forge(pack, {"report.json": json.dumps(report).encode(), "spec.json": spec})
    failed = {check.name: check.details for check in verify_pack(pack).checks if check.status == "failed"}
    if field == "spec.threat.epsilon":
        assert "outcomes" in failed  # the perturbations are larger than this radius
    elif field == "classes.2.images":
        assert set(failed) == {"outcomes"}, failed  # a row whose rates count other images is no report
    elif field == "spec.confidence":
        assert len(failed["statistics"]) > 5
    else:
        assert any(field.replace(".3", "[3]").split(".")[0] in path for path in failed["statistics"]), failed


def test_changed_outcomes_are_refused(tmp_path: Path, pack: Path) -> None:
    """A forger who turns one broken image into a robust one is refused, though its digest fits the report."""
    from dataclasses import replace

    report = read_report(read_members(pack)["report.json"])
    (tmp_path / "o.parquet").write_bytes(read_members(pack)["outcomes.parquet"])
    outcomes = read_outcomes(tmp_path / "o.parquet", report)
    one = outcomes.evaluation
    row = int(np.flatnonzero(one.broken_by >= 0)[0])
    arrays = {name: getattr(one, name).copy() for name in ("broken_by", "attacked", "distance")}
    arrays["broken_by"][row], arrays["attacked"][row], arrays["distance"][row] = -1, one.labels[row], 0.0
    texts = tuple("" if number == row else text for number, text in enumerate(one.sha256))
    better = replace(outcomes, evaluation=replace(one, **arrays, sha256=texts))
    fitting = report.model_copy(update={"outcomes_sha256": better.sha256})
    better.write(tmp_path / "o.parquet", fitting)
    changes = {
        "report.json": fitting.model_dump_json().encode(),
        "outcomes.parquet": (tmp_path / "o.parquet").read_bytes(),
    }
    forge(pack, changes)
    failed = {check.name: check.details for check in verify_pack(pack).checks if check.status == "failed"}
    assert "robust.mean.count" in failed["statistics"]
    assert "statement" in failed  # another Merkle root


@pytest.mark.parametrize(
    ("field", "value"),
    [("classes", []), ("attacks", []), ("seconds", 1e300), ("created_at", "2026-11-23T04:05:00"), ("confusion", [])],
)
def test_values_that_no_audit_has_are_refused(pack: Path, field: str, value: object) -> None:
    """A report with values that make computations fail is refused, or verified; it never ends the verification."""
    report = json.loads(read_members(pack)["report.json"])
    report[field] = value
    forge(pack, {"report.json": json.dumps(report).encode()})
    assert _refusal(pack)


def test_another_page_is_refused(pack: Path) -> None:
    """A page that shows something else than the files is refused."""
    page = read_members(pack)["evidence.html"].replace(b"No verdict", b"Passed")
    forge(pack, {"evidence.html": page})
    assert _refusal(pack).startswith("page: evidence.html is not the page of these files")


@pytest.mark.parametrize(
    "facts", [{"version": 2}, {"audits": []}, {"batches": {"merkleRoot": ""}}, {"policy": {"file": "policy.yaml"}}]
)
def test_statements_with_other_facts_are_refused(pack: Path, facts: dict[str, object]) -> None:
    """A statement that says something that does not follow from the files is refused."""
    forge(pack, {}, **facts)
    assert _refusal(pack).startswith("statement: The statement says something that does not follow from the files")


@pytest.mark.parametrize(
    "error", [OSError("Corrupt page"), pa.ArrowInvalid("Corrupt page"), ValueError("Corrupt page")]
)
def test_rows_that_cannot_be_decoded_are_refused(pack: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """An error of the decoder is a refusal, whatever its type."""
    original = pq.ParquetFile.read

    def read(file: pq.ParquetFile, columns: list[str] | None = None, **options: object) -> pa.Table:
        if columns is None:
            raise error
        return original(file, columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read", read)
    assert _refusal(pack) == "outcomes: outcomes.parquet is damaged: Corrupt page."


def test_the_check_of_statistics_names_what_it_leaves_out(pack: Path) -> None:
    """Without a ledger, nothing shows whether the attacks tried all images."""
    (check,) = (check for check in verify_pack(pack).checks if check.name == "statistics")
    assert check.sentence.endswith("Not computed again: warnings, costs, whether the attacks tried all images.")
