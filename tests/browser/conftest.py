"""The service that the browser looks at."""

from tests.service.api.conftest import own_web

__all__ = ["own_web"]
