"""Class-wise fair adversarial training: the loop, its losses, its class weights, and what survives a crash."""
