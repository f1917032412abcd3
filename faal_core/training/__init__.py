"""Class-wise fair adversarial training: the loop, its losses, its methods, and what survives a crash."""
