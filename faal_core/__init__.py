"""FAAL: per-class adversarial-robustness audits and fairness-aware adversarial fine-tuning.

The library does not depend on the service around it: paths, device and seed come in as arguments. Its lower half
(`results`, `reports`, `dro`, `specs`, `catalog`, `threat_model`, `archives`, `progress`, `errors`) imports no torch.
"""

__version__ = "0.1.0"
