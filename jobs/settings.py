"""What a site can set: `FAAL_…` variables with embedded defaults. Built in a `main` and passed on, never global."""

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

MAX_ATTEMPTS = 3
MAX_PRIORITY = 10
FOLDER_BROKER = "filesystem://"
BROKERS = ("redis", "rediss", "sentinel", "amqp", "amqps", FOLDER_BROKER.removesuffix("://"))
DATABASES = ("postgresql+psycopg", "postgresql", "sqlite")
POOL = r"^[a-z0-9][a-z0-9-]{0,31}$"
"""How a pool may be called."""
POOLS = rf"^{POOL[1:-1]}(,{POOL[1:-1]})*$"


Network = IPv4Network | IPv6Network


def _listed(names: str) -> list[str]:
    """Return the names between the commas, without spaces around them."""
    return [name.strip() for name in names.split(",")]


def _networks(names: str) -> list[Network]:
    """The networks of those names, with commas between. Raises: ValueError."""
    return [ip_network(name) for name in _listed(names)]


def _names_networks(names: str) -> str:
    _networks(names)
    return names


_HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")


def _hosts(names: str) -> str:
    """Return the names as they are compared: in lower case, without a dot at the end. Raises: ValueError."""
    hosts = [name.lower().removesuffix(".") for name in _listed(names)]
    for host in hosts:
        if not _HOST_NAME.fullmatch(host):
            try:
                ip_address(host)
            except ValueError:
                form = "write names such as faal.example.org, without scheme and port"
                raise ValueError(f"{host!r} is neither a host name nor an address; {form}") from None
    return ",".join(hosts)


def _names_datasets(names: str) -> str:
    known = catalog.datasets()
    if unknown := [name for name in _listed(names) if name not in known]:
        raise ValueError(f"the catalog has no data set {', '.join(map(repr, unknown))}; it has {', '.join(known)}")
    return names


def _names_database(url: str) -> str:
    """Return the URL; no error shows it, because it may hold a password."""
    try:
        driver = make_url(url).drivername
    except (ArgumentError, ValueError) as error:
        raise ValueError("this is no URL of a database; write postgresql+psycopg://USER@HOST/DATABASE") from error
    if driver not in DATABASES:
        raise ValueError(f"the URL begins with {driver}://; write postgresql+psycopg://… or sqlite:////path/to/faal.db")
    return url


def _names_broker(url: str) -> str:
    """Return the URL; no error shows it, because it may hold a password."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in BROKERS:
        raise ValueError("this is no URL of a broker; write redis://HOST:PORT/0 or filesystem:///path/to/folder")
    try:
        urlsplit(url.partition(";")[0]).port  # noqa: B018 - reading it checks it
    except ValueError as error:
        raise ValueError("the port in the URL of the broker is not a number from 0 to 65535") from error
    return url


def _names_host(name: str) -> str:
    """Return the name of the host; UnicodeError, which the resolver would raise, is a ValueError."""
    name.encode("idna")
    return name


def _default_database(values: dict[str, Any]) -> str:
    return f"sqlite:///{values['data_dir'] / 'faal.db'}"


def _default_broker(values: dict[str, Any]) -> str:
    return f"{FOLDER_BROKER}{values['data_dir'] / 'broker'}"


def _default_checkpoints(values: dict[str, Any]) -> Path:
    data_dir: Path = values["data_dir"]
    return data_dir / "checkpoints"


class Quota(NamedTuple):
    """What one owner may have at a time; 0 is no limit."""

    jobs: int = 0
    bytes: int = 0


NO_QUOTA = Quota()


class Settings(BaseSettings):
    """Every setting of api and worker; the variable of `data_dir` is `FAAL_DATA_DIR`."""

    model_config = SettingsConfigDict(env_prefix="FAAL_", frozen=True, extra="ignore")

    data_dir: Annotated[Path, AfterValidator(Path.absolute)] = Field(
        Path("faal-data"),
        validate_default=True,
        description="folder of uploads, weights and checkpoints, and of database and queue unless these are set; "
        "api and workers must see the same",
    )
    store_url: Annotated[
        Annotated[str, Field(pattern=r"^s3://[^/\s]+(/\S*)?$")] | None, BeforeValidator(lambda given: given or None)
    ] = Field(
        None,
        description="`s3://bucket/prefix`: files lie in that object store, and each machine's data folder is its own; default: "
        "`files` in the data folder",
    )
    store_links: bool = Field(
        False,
        description="downloads of weights are answered with a signed link into the object store, good for five minutes; for "
        "clients that reach it under the address that the service uses",
    )
    database_url: Annotated[str, AfterValidator(_names_database)] = Field(
        default_factory=_default_database,
        description="`postgresql+psycopg://…`, or `sqlite:///…`; default: `faal.db` in the data folder",
    )
    broker_url: Annotated[str, AfterValidator(_names_broker)] = Field(
        default_factory=_default_broker,
        description="`redis://…`, or `filesystem://` and a folder; default: `broker` in the data folder",
    )
    dataset_root: Annotated[Path, AfterValidator(Path.absolute)] | None = Field(
        None,
        description="folder of torchvision's data sets, on workers and for the web service; without it only bundled and uploaded "
        "ones can be used",
    )
    named_datasets: Annotated[
        Annotated[str, AfterValidator(_names_datasets)] | None, BeforeValidator(lambda given: given or None)
    ] = Field(
        None,
        description="the data sets of the catalog that jobs can use, such as `cifar10,gtsrb`, with commas between, where the web "
        "service does not see the workers' `FAAL_DATASET_ROOT`; default: those whose files it finds there",
    )
    checkpoints_dir: Annotated[Path, AfterValidator(Path.absolute)] = Field(
        default_factory=_default_checkpoints,
        description="folder where running jobs keep what their next attempt needs; may be each machine's own; default: "
        "`checkpoints` in the data folder",
    )
    upload_limit: int = Field(2 * 2**30, ge=1, description="largest upload in bytes")
    quota_jobs: int = Field(10_000, ge=0, description="most jobs of one owner that have not ended; 0: no limit")
    quota_bytes: int = Field(
        0, ge=0, description="most bytes of one owner's uploads and weights in storage; 0: no limit"
    )
    requests_per_minute: int = Field(
        6_000, ge=0, description="most requests of one owner, to each process of the service; 0: no limit"
    )
    validation_seconds: int = Field(
        300,
        ge=1,
        description="processor time that a check of an upload may take once its libraries are loaded, in seconds",
    )
    validation_memory: int = Field(
        8 * 2**30,
        ge=2**28,
        description="address space that a check of an upload may take beside its libraries, in bytes",
    )
    lease_seconds: float = Field(30, gt=0, description="a worker that is silent for so long is taken for dead")
    sweep_seconds: float = Field(
        10,
        gt=0,
        description="how often an idle worker looks for jobs, and every worker for leases that ran out; where "
        "`FAAL_LEASE_SECONDS` is less, as often as that",
    )
    checkpoint_seconds: float = Field(
        60, ge=0, description="how often at most a running job's checkpoint goes into storage, for other machines"
    )
    max_attempts: int = Field(MAX_ATTEMPTS, ge=1, description="a job whose worker died so often has failed")
    keep_days: float = Field(
        0, ge=0, description="jobs that ended so many days ago are removed, with events and reports; 0 keeps them"
    )
    grace_seconds: float = Field(10, ge=0, description="time between asking a job's process to stop and killing it")
    device: Literal["auto", "cpu", "cuda"] | Annotated[str, Field(pattern=r"^cuda:\d+$")] = Field(
        "auto", description="where networks run: `auto` takes a GPU if there is one; `cpu`, `cuda` or `cuda:N`"
    )
    pool: Annotated[Annotated[str, Field(pattern=POOL)] | None, BeforeValidator(lambda given: given or None)] = Field(
        None,
        description="the pool of machines a worker belongs to, such as `h100`: it takes the jobs that ask for it, beside those "
        "that ask for none",
    )
    pools: Annotated[str, Field(pattern=POOLS)] | None = Field(
        None, description="the pools that jobs can ask for, with commas between"
    )
    threads: int | None = Field(None, ge=1, description="processor threads of a job; all cores when absent")
    processes: int = Field(
        1, ge=1, le=64, description="processes that a fine-tuning trains with, one a GPU; they share the threads"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="what processes log: `text` for people, or `json`, one object a line"
    )
    host: Annotated[str, AfterValidator(_names_host)] = Field(
        "127.0.0.1", description="address the web service listens on"
    )
    port: int = Field(8000, ge=0, le=65535, description="port the web service listens on; 0 takes a free one")
    webhook_networks: Annotated[
        Annotated[str, AfterValidator(_names_networks)] | None, BeforeValidator(lambda given: given or None)
    ] = Field(
        None,
        description="networks that webhooks may be sent into beside the public Internet, such as `10.1.0.0/16`, with commas "
        "between; into these without TLS too",
    )
    secret: SecretStr | None = Field(
        None,  # its length is seen to where it is used: an error of the settings would show it
        description="what API keys are hashed and sessions signed under, at least 32 characters; default: `secret` in the data "
        "folder, written at first use",
    )
    open: bool = Field(
        False,
        description="while there are no API keys: listen on `FAAL_HOST`, and not on the loopback address alone; for a service "
        "that only trusted people can reach",
    )
    hosts: Annotated[Annotated[str, AfterValidator(_hosts)] | None, BeforeValidator(lambda given: given or None)] = (
        Field(
            None,
            description="while there are no API keys: the names, such as `faal.example.org`, with commas between, under which "
            "people reach the service, beside `localhost`, loopback addresses and, with `FAAL_OPEN`, any address; requests for "
            "other names are refused",
        )
    )

    @property
    def quota(self) -> Quota:
        """What one owner may have at a time."""
        return Quota(self.quota_jobs, self.quota_bytes)

    @property
    def offered_pools(self) -> list[str]:
        """The pools that jobs can ask for."""
        return self.pools.split(",") if self.pools else []

    @property
    def listed_datasets(self) -> list[str] | None:
        """Return the data sets of `named_datasets`; None where their files are looked for."""
        return None if self.named_datasets is None else _listed(self.named_datasets)

    @property
    def allowed_hosts(self) -> list[str]:
        """Return the names of `hosts`."""
        return self.hosts.split(",") if self.hosts else []

    @property
    def allowed_networks(self) -> list[Network]:
        """The networks of `webhook_networks`."""
        return _networks(self.webhook_networks) if self.webhook_networks else []

    @property
    def files_dir(self) -> Path:
        """Where uploads, results and copies of checkpoints lie, by content, unless they lie in an object store."""
        return self.data_dir / "files"
