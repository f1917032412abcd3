"""Its import fails, as that of torch does where a library of the driver is missing."""

import a_library_that_is_missing  # type: ignore[import-not-found] # noqa: F401
