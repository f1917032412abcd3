"""Functions that the tests run in forks of a warm process, in place of a job."""

import time

from faal_core.lifetime import end_with_parent


def hold(parent: int) -> None:
    """Run until killed."""
    end_with_parent(parent)
    time.sleep(600)


def run_code(code: str, parent: int) -> None:
    """Run the code, as a job's process does: it ends with its parent."""
    end_with_parent(parent)
    exec(code, {})


def require_fresh_torch(threads: int, parent: int) -> None:
    """Exit with status 1 if the process that was forked had used CUDA, or torch has another number of threads."""
    import torch

    if torch.cuda.is_initialized() or torch.cuda._is_in_bad_fork() or torch.get_num_threads() != threads:
        raise SystemExit(1)
