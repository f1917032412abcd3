"""Networks of ONNX's operators, computed by torch so that gradients flow."""

from faal_core.networks.onnx import arithmetic, layers, shapes  # noqa: F401 - they fill the table of operators
