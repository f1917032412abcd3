"""The settings of a site: `FAAL_…` variables with defaults. Built in a `main` and passed on, never global."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from faal_core import catalog
from faal_core.catalog.site_networks import read_networks

MAX_ATTEMPTS = 3
MAX_PRIORITY = 10
FOLDER_BROKER = "filesystem://"
BROKERS = ("redis", "rediss", "sentinel", "amqp", "amqps", FOLDER_BROKER.removesuffix("://"))
DATABASES = ("postgresql+psycopg", "postgresql", "sqlite")
POOL = r"^[a-z0-9][a-z0-9-]{0,31}$"
"""The pattern of a pool's name."""
POOLS = rf"^{POOL[1:-1]}(,{POOL[1:-1]})*$"


Network = IPv4Network | IPv6Network


def _split_names(names: str) -> list[str]:
    """Return the names between the commas, without spaces around them."""
    return [name.strip() for name in names.split(",")]


def _parse_networks(names: str) -> list[Network]:
    """Return the networks of those names, with commas between. Raises: ValueError."""
    return [ip_network(name) for name in _split_names(names)]


def _check_networks(names: str) -> str:
    _parse_networks(names)
    return names


_HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")


def _parse_hosts(names: str) -> str:
    """Return the names in the form in which they are compared: lower case, without a dot at the end. Raises: ValueError."""
    hosts = [name.lower().removesuffix(".") for name in _split_names(names)]
    for host in hosts:
        if not _HOST_NAME.fullmatch(host):
            try:
                ip_address(host)
            except ValueError:
                form = "write names such as faal.example.org, without scheme and port"
                raise ValueError(f"{host!r} is neither a host name nor an address; {form}") from None
    return ",".join(hosts)


def _check_datasets(names: str) -> str:
    known = catalog.datasets()
    if unknown := [name for name in _split_names(names) if name not in known]:
        raise ValueError(f"the catalog has no data set {', '.join(map(repr, unknown))}; it has {', '.join(known)}")
    return names


def _check_network_files(path: Path) -> Path:
    """Return the path of the site's own networks. Raises: ValueError where they cannot be offered."""
    read_networks(path)
    return path


def _check_database_url(url: str) -> str:
    """Return the URL; no error shows it, because it may hold a password. Raises: ValueError."""
    try:
        driver = make_url(url).drivername
    except (ArgumentError, ValueError) as error:
        raise ValueError("this is not the URL of a database; write postgresql+psycopg://USER@HOST/DATABASE") from error
    if driver not in DATABASES:
        raise ValueError(f"the URL begins with {driver}://; write postgresql+psycopg://… or sqlite:////path/to/faal.db")
    return url


def _check_broker_url(url: str) -> str:
    """Return the URL; no error shows it, because it may hold a password. Raises: ValueError."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in BROKERS:
        raise ValueError("this is not the URL of a broker; write redis://HOST:PORT/0 or filesystem:///path/to/folder")
    try:
        urlsplit(url.partition(";")[0]).port  # noqa: B018 - reading it checks it
    except ValueError as error:
        raise ValueError("the port in the URL of the broker is not a number from 0 to 65535") from error
    return url


def _check_host(name: str) -> str:
    """Return the name of the host. Raises: ValueError, also in place of the UnicodeError that the resolver would raise."""
    name.encode("idna")
    return name


def _require_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("the name has a character that cannot be printed, such as a control character")
    return text


def _default_database(values: dict[str, Any]) -> str:
    return f"sqlite:///{values['data_dir'] / 'faal.db'}"


def _default_broker(values: dict[str, Any]) -> str:
    return f"{FOLDER_BROKER}{values['data_dir'] / 'broker'}"


def _default_checkpoints(values: dict[str, Any]) -> Path:
    data_dir: Path = values["data_dir"]
    return data_dir / "checkpoints"


class Quota(NamedTuple):
    """The limits of one owner; 0 is no limit."""

    jobs: int = 0
    bytes: int = 0


NO_QUOTA = Quota()


class Settings(BaseSettings):
    """Every setting of api and worker; the variable of `data_dir` is `FAAL_DATA_DIR`."""

    model_config = SettingsConfigDict(env_prefix="FAAL_", frozen=True, extra="ignore")

    data_dir: Annotated[Path, AfterValidator(Path.absolute)] = Field(
        Path("faal-data"),
        validate_default=True,
        description="folder of uploads, weights and checkpoints, and of database and queue unless these are set; api and "
        "workers must use the same folder",
    )
    store_url: Annotated[
        Annotated[str, Field(pattern=r"^s3://[^/\s]+(/\S*)?$")] | None, BeforeValidator(lambda value: value or None)
    ] = Field(
        None,
        description="`s3://bucket/prefix` of the object store that holds the files; each machine then has a data folder "
        "of its own; default: `files` in the data folder",
    )
    store_links: bool = Field(
        False,
        description="answer downloads of weights with a signed link into the object store, valid for 5 minutes; clients "
        "must reach the store at the address that the service uses",
    )
    database_url: Annotated[str, AfterValidator(_check_database_url)] = Field(
        default_factory=_default_database,
        description="`postgresql+psycopg://…`, or `sqlite:///…`; default: `faal.db` in the data folder",
    )
    broker_url: Annotated[str, AfterValidator(_check_broker_url)] = Field(
        default_factory=_default_broker,
        description="`redis://…`, or `filesystem://` and a folder; default: `broker` in the data folder",
    )
    dataset_root: Annotated[Path, AfterValidator(Path.absolute)] | None = Field(
        None,
        description="folder of torchvision's data sets, on workers and for the web service; without it jobs can use "
        "bundled and uploaded data sets only",
    )
    named_datasets: Annotated[
        Annotated[str, AfterValidator(_check_datasets)] | None, BeforeValidator(lambda value: value or None)
    ] = Field(
        None,
        description="data sets of the catalog that jobs can use, with commas between, such as `cifar10,gtsrb`; for a web "
        "service that does not see the workers' `FAAL_DATASET_ROOT`; default: those whose files are in "
        "`FAAL_DATASET_ROOT`",
    )
    networks: Annotated[
        Annotated[Path, AfterValidator(Path.absolute), AfterValidator(_check_network_files)] | None,
        BeforeValidator(lambda value: value or None),
    ] = Field(
        None,
        description="Python file with the site's own networks, or folder of such files, the same for the web service and all "
        "workers; the web service reads their names, and workers execute them",
    )
    checkpoints_dir: Annotated[Path, AfterValidator(Path.absolute)] = Field(
        default_factory=_default_checkpoints,
        description="folder of the files that a job's next attempt resumes from; each machine may have its own; default: "
        "`checkpoints` in the data folder",
    )
    upload_limit: int = Field(2 * 2**30, ge=1, description="largest upload in bytes")
    quota_jobs: int = Field(
        10_000, ge=0, description="maximum number of jobs of one owner that have not ended; 0: no limit"
    )
    quota_bytes: int = Field(0, ge=0, description="maximum bytes of one owner's files in storage; 0: no limit")
    requests_per_minute: int = Field(
        6_000, ge=0, description="maximum requests of one owner per minute, to each process of the service; 0: no limit"
    )
    validation_seconds: int = Field(
        300,
        ge=1,
        description="processor time that the check of an upload may take once its libraries are loaded, in seconds",
    )
    validation_memory: int = Field(
        8 * 2**30,
        ge=2**28,
        description="address space that the check of an upload may take beyond its libraries, in bytes",
    )
    lease_seconds: float = Field(
        30, gt=0, description="seconds after which a worker that does not renew its lease is considered dead"
    )
    sweep_seconds: float = Field(
        10,
        gt=0,
        description="seconds between two sweeps, in which an idle worker looks for jobs and every worker for expired "
        "leases; at most `FAAL_LEASE_SECONDS`",
    )
    checkpoint_seconds: float = Field(
        60,
        ge=0,
        description="minimum seconds between two copies of a running job's checkpoint into storage, from which other "
        "machines resume",
    )
    max_attempts: int = Field(
        MAX_ATTEMPTS, ge=1, description="number of attempts whose worker died after which a job fails"
    )
    keep_days: float = Field(
        0,
        ge=0,
        description="days after its end at which a job is removed, with its events and report; 0 keeps all jobs",
    )
    grace_seconds: float = Field(10, ge=0, description="seconds between asking a job's process to stop and killing it")
    device: Literal["auto", "cpu", "cuda"] | Annotated[str, Field(pattern=r"^cuda:\d+$")] = Field(
        "auto", description="device of the networks: `auto` uses a GPU if there is one; `cpu`, `cuda` or `cuda:N`"
    )
    pool: Annotated[Annotated[str, Field(pattern=POOL)] | None, BeforeValidator(lambda value: value or None)] = Field(
        None,
        description="the worker's pool, such as `h100`: the worker claims jobs that ask for this pool, and jobs that ask "
        "for no pool",
    )
    pools: Annotated[str, Field(pattern=POOLS)] | None = Field(
        None, description="pools that jobs can ask for, with commas between"
    )
    threads: int | None = Field(None, ge=1, description="processor threads of a job; default: all cores")
    processes: int | None = Field(
        None,
        ge=1,
        le=64,
        description="processes of a job: of an audit, and of a fine-tuning, one per GPU; they share the threads; default: audits "
        "choose the number by a short measurement, and one process trains",
    )
    help: bool = Field(
        True,
        description="whether a worker shares the audits of its jobs with idle workers, and computes batches of other workers' "
        "audits while no job waits",
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="format of the logs: `text` for people, or `json`, one object a line"
    )
    host: Annotated[str, AfterValidator(_check_host)] = Field(
        "127.0.0.1", description="address that the web service listens on"
    )
    port: int = Field(8000, ge=0, le=65535, description="port that the web service listens on; 0 chooses a free one")
    webhook_networks: Annotated[
        Annotated[str, AfterValidator(_check_networks)] | None, BeforeValidator(lambda value: value or None)
    ] = Field(
        None,
        description="private networks that webhooks may be sent into, with commas between, such as `10.1.0.0/16`; plain "
        "HTTP is allowed there",
    )
    secret: SecretStr | None = Field(
        None,  # its length is checked where it is used: an error of the settings would show it
        description="secret of at least 32 characters that hashes API keys and signs sessions; default: `secret` in the "
        "data folder, written at first use",
    )
    signing_key: Annotated[
        Annotated[Path, AfterValidator(Path.absolute)] | None, BeforeValidator(lambda value: value or None)
    ] = Field(
        None,
        description="private key, as `faal create-key` writes it, with which the web service signs evidence packs; only the "
        "user of the service may read the file; without it packs are not signed",
    )
    signer: Annotated[
        Annotated[str, Field(max_length=200), AfterValidator(_require_printable)] | None,
        BeforeValidator(lambda value: (value.strip() if isinstance(value, str) else value) or None),
    ] = Field(None, description="name and role of the signer of evidence packs, which the signed statements repeat")
    open: bool = Field(
        False,
        description="until there is an API key: listen on `FAAL_HOST` instead of the loopback address only; for a service"
        " that only trusted people can reach",
    )
    hosts: Annotated[
        Annotated[str, AfterValidator(_parse_hosts)] | None, BeforeValidator(lambda value: value or None)
    ] = Field(
        None,
        description="until there is an API key: host names of the service, with commas between, such as "
        "`faal.example.org`; requests for other names are refused, except `localhost`, loopback addresses "
        "and, with `FAAL_OPEN`, any address",
    )

    @property
    def quota(self) -> Quota:
        """Return the limits of one owner."""
        return Quota(self.quota_jobs, self.quota_bytes)

    @property
    def offered_pools(self) -> list[str]:
        """Return the pools that jobs can ask for."""
        return self.pools.split(",") if self.pools else []

    @property
    def listed_datasets(self) -> list[str] | None:
        """Return the data sets of `named_datasets`; None where their files decide."""
        return None if self.named_datasets is None else _split_names(self.named_datasets)

    @property
    def allowed_hosts(self) -> list[str]:
        """Return the names of `hosts`."""
        return self.hosts.split(",") if self.hosts else []

    @property
    def allowed_networks(self) -> list[Network]:
        """Return the networks of `webhook_networks`."""
        return _parse_networks(self.webhook_networks) if self.webhook_networks else []

    @property
    def files_dir(self) -> Path:
        """Return the folder of uploads, results and copies of checkpoints, for a site without an object store."""
        return self.data_dir / "files"
