"""Export reports to the tools of others: MLflow, Weights & Biases, model cards of Hugging Face, tables, and Fairlearn.

One module per target. A target's package is imported in the function that needs it, and each is an extra of FAAL. Data leaves the
machine only for the server or project that the caller names; credentials come from the package's own environment variables.
"""
