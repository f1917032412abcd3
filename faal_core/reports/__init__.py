"""Render reports: `html` makes the page, `terminal` the text for a command line.

`audit_text` and `finetune_text` write the sentences of both, `plots` and `class_plots` draw the charts, `wording` writes
numbers and names.
"""
