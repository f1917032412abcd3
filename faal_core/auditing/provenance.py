"""Describe the software and the device that compute a result."""

import torch

from faal_core import __version__
from faal_core.results.documents import Provenance


def describe_provenance(device: torch.device) -> Provenance:
    """Return the versions, the device and the number of threads of this process."""
    on_gpu = device.type == "cuda"
    return Provenance(
        faal=__version__,
        torch=torch.__version__,
        cuda=torch.version.cuda if on_gpu else None,
        device=torch.cuda.get_device_name(device) if on_gpu else device.type,
        instruction_set=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
    )
