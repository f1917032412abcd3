"""Hold the results of audits and fine-tunings. Needs no torch.

`image_outcomes` has one row per image, `class_table` one row per class, `documents` and `finetune_documents` the JSON
reports, `ledger` the file that lets an audit resume.
"""
