"""`faal-service keys` for a team: the messages and lists about one owner."""

import json
from pathlib import Path

import pytest

from api import keys


def test_keys_of_a_team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A second key of an owner is announced as such; a list can be of one owner; stdout has the key alone."""
    monkeypatch.setenv("FAAL_DATA_DIR", str(tmp_path))

    def run(*arguments: str) -> tuple[str, str]:
        assert keys.main(arguments) == 0
        return capsys.readouterr()

    for owner, name, message in (
        ("vision", "Ann", "read, submit as vision, which has no other valid key."),
        ("vision", "Ben", "read, submit as vision, which has 2 valid keys now."),
        ("audio", "Cem", "read, submit as audio, which has no other valid key."),
    ):
        output, errors = run("create", "--owner", owner, "--name", name)
        assert message in errors
        assert output.startswith("faal_")
        assert output.count("\n") == 1
    names = [json.loads(line)["name"] for line in run("list", "--owner", "vision")[0].splitlines()]
    assert names == ["Ben", "Ann"]
    assert len(run("list")[0].splitlines()) == 3
