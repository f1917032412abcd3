"""The service that the browser looks at, and the browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.driving import open_browser
from tests.service.api.conftest import Web, own_web, serve

__all__ = ["own_web"]


@pytest.fixture(scope="session")
def shared_web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """Yield a service on SQLite without keys, for the whole session; tests examine their own rows only."""
    yield from serve(tmp_path_factory.mktemp("web"), {})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yield a browser. While it is open, an event loop runs in this thread, and other tests need loops of their own."""
    with open_browser() as browser:
        yield browser
