"""Describe the software and the device that compute a result."""

import torch

from faal_core import __version__
from faal_core.results.documents import Provenance


def describe_provenance(device: torch.device, processes: int | None) -> Provenance:
    """Return the versions and the device, and the numbers of processes and of their threads.

    Args:
        processes: processes of this machine that computed at a time; None where others computed.
    """
    on_gpu = device.type == "cuda"
    return Provenance(
        faal=__version__,
        torch=torch.__version__,
        cuda=torch.version.cuda if on_gpu else None,
        device=torch.cuda.get_device_name(device) if on_gpu else device.type,
        instruction_set=torch.backends.cpu.get_cpu_capability(),
        processes=processes,
        threads=1 if processes is not None and processes > 1 else torch.get_num_threads(),
    )
