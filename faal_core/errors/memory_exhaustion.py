"""Recognise exceptions that mean that memory ran out, the machine's or a device's, whichever library raises them."""

import errno

from faal_core.errors import OutOfMemory

_TEXTS = (  # compared in lower case
    "out of memory",  # torch's allocators of CUDA, ROCm, XPU and MPS, CUDA's own error, NCCL, Pillow's decoders
    "can't allocate memory",  # torch's allocator of the machine's memory
    "not enough memory",  # the same on Windows, and oneMKL
    "cannot allocate memory",  # the system's ENOMEM, as torch and safetensors quote it
    "alloc_failed",  # …_STATUS_ALLOC_FAILED of cuBLAS, cuSOLVER, cuSPARSE and cuDNN 8, CUFFT_ALLOC_FAILED
    "allocation_failed",  # CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED of cuDNN 9, and …_HOST_…
    "failed to allocate",  # QNNPACK and XNNPACK
    "bad_alloc",  # C++
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the exception means that memory ran out."""
    if isinstance(error, MemoryError | OutOfMemory):  # NumPy's exception is a MemoryError too
        return True
    if any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):  # torch's, without importing torch
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError | OSError) and any(text in str(error).lower() for text in _TEXTS)


def require_memory(error: Exception, purpose: str) -> None:
    """Raise OutOfMemory, which names the purpose ("to read …"), where the exception means that memory ran out."""
    if is_out_of_memory(error):
        raise OutOfMemory(f"There is not enough memory {purpose}.") from error
