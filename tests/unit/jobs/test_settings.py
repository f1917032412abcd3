"""The settings of a site."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from faal_core import catalog
from jobs.named_datasets import is_available
from jobs.settings import Settings


def test_everything_lies_in_the_data_folder(monkeypatch, tmp_path):
    """With one variable set, database, queue and files are stored in that folder, made absolute."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAAL_DATA_DIR", "here")
    settings = Settings()
    assert settings.data_dir == tmp_path / "here"
    assert settings.database_url == f"sqlite:///{tmp_path}/here/faal.db"
    assert settings.broker_url == f"filesystem://{tmp_path}/here/broker"
    assert settings.files_dir == tmp_path / "here" / "files"
    assert settings.checkpoints_dir == tmp_path / "here" / "checkpoints"


def test_default_data_folder_is_absolute(monkeypatch, tmp_path):
    """The default folder is resolved when the program starts, so that a later change of the working folder has no effect."""
    monkeypatch.chdir(tmp_path)
    assert Settings().data_dir == tmp_path / "faal-data"


def test_what_is_set_replaces_the_defaults(monkeypatch):
    """A configured database, broker and place for checkpoints replace those in the folder."""
    monkeypatch.setenv("FAAL_DATABASE_URL", "postgresql+psycopg://db/faal")
    monkeypatch.setenv("FAAL_BROKER_URL", "redis://broker/0")
    monkeypatch.setenv("FAAL_CHECKPOINTS_DIR", "/scratch/faal")
    settings = Settings()
    assert settings.checkpoints_dir == Path("/scratch/faal")
    assert (settings.database_url, settings.broker_url) == ("postgresql+psycopg://db/faal", "redis://broker/0")


def test_every_setting_is_described():
    """Every setting has a description, from which docs/reference/settings.md is written."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "gpu"),
        ("upload_limit", "0"),
        ("lease_seconds", "0"),
        ("threads", "0"),
        ("port", "70000"),
        ("store_url", "bucket"),
        ("store_url", "s3:///prefix"),
        ("hosts", "*"),
        ("hosts", "*.example.org"),
        ("hosts", "http://faal.example.org"),
        ("hosts", "faal.example.org:8000"),
        ("hosts", "faal.example.org,"),
        ("database_url", "faal.db"),
        ("database_url", "mysql://host/faal"),
        ("broker_url", "localhost"),
        ("broker_url", "nonsense://localhost"),
        ("broker_url", "redis://localhost:port/0"),
        ("host", "a..b"),
        ("signer", "Bob\u202eytirohtua"),
        ("signer", "Bob\nauthority"),
    ],
)
def test_values_that_make_no_sense(monkeypatch, name, value):
    """A wrong value is refused when the program starts, and the error names the setting."""
    monkeypatch.setenv(f"FAAL_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        Settings()


@pytest.mark.parametrize(("name", "signer"), [("  ", None), (" Bob, laboratory ", "Bob, laboratory"), ("", None)])
def test_blanks_around_the_name_of_the_signer_do_not_count(monkeypatch, name: str, signer: str | None) -> None:
    """A name of blanks is no name."""
    monkeypatch.setenv("FAAL_SIGNER", name)
    assert Settings().signer == signer


@pytest.mark.parametrize("names", ["cifar10, gtsrb", " cifar10 ,gtsrb "])
def test_spaces_beside_the_commas_of_a_list_do_not_count(monkeypatch, tmp_path: Path, names: str) -> None:
    """A list of data sets or of networks may have spaces beside its commas."""
    monkeypatch.setenv("FAAL_NAMED_DATASETS", names)
    monkeypatch.setenv("FAAL_WEBHOOK_NETWORKS", "10.1.0.0/16, 10.2.0.0/16")
    settings = Settings(data_dir=tmp_path)
    assert [name for name in ("cifar10", "gtsrb", "mnist") if is_available(settings, name)] == ["cifar10", "gtsrb"]
    assert [str(network) for network in settings.allowed_networks] == ["10.1.0.0/16", "10.2.0.0/16"]


@pytest.mark.parametrize(
    ("names", "unknown"), [("cifar-10", "'cifar-10'"), ("cifar10,mnits", "'mnits'"), ("cifar10,", "''"), (" ", "''")]
)
def test_a_data_set_that_the_catalog_does_not_have_is_refused(monkeypatch, names: str, unknown: str) -> None:
    """An unknown name stops the start with an error that quotes it and lists the known names."""
    monkeypatch.setenv("FAAL_NAMED_DATASETS", names)
    with pytest.raises(
        ValidationError, match=rf"named_datasets(.|\n)*no data set {unknown}; it has .*cifar10, cifar100"
    ):
        Settings()


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1"])
def test_devices(device):
    """A device is chosen automatically, or named as torch names it."""
    assert Settings(device=device).device == device


def test_settings_do_not_change(tmp_path: Path):
    """Settings are immutable."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings(data_dir=tmp_path).port = 1  # type: ignore[misc]


def test_the_site_says_which_data_sets_it_has_where_the_web_service_cannot_see_them(tmp_path: Path) -> None:
    """A list of names replaces the folder; bundled data sets are available in any case."""
    (tmp_path / "train_32x32.mat").touch()
    (tmp_path / "test_32x32.mat").touch()
    seen = Settings(data_dir=tmp_path, dataset_root=tmp_path)
    with_names = Settings(data_dir=tmp_path, dataset_root=tmp_path, named_datasets="cifar10,gtsrb")
    for settings, listed_names in (
        (seen, {"svhn"}),
        (with_names, {"cifar10", "gtsrb"}),
        (Settings(data_dir=tmp_path), set()),
    ):
        available_names = {name for name in catalog.datasets() if is_available(settings, name)}
        assert available_names == listed_names | {"fashion-mnist-subset"}
