"""FAAL: per-class adversarial-robustness audits and fairness-aware adversarial fine-tuning.

The library knows nothing of the service around it: paths, device and seed come in as arguments. Its lower half
(`per_class`, `reports`, `dro`, `intervals`, `specs`, `catalog`, `threat_model`, `progress`, `errors`) imports no torch.
"""

__version__ = "0.1.0"
