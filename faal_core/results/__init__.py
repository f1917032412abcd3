"""Results of audits and fine-tunings: outcomes of images, statistics of classes, and the report documents. No torch."""
