"""Fine-tune a classifier for fairness: audit, train, audit again on the same images, compare.

`call.finetune` takes what a caller in Python has; `run.run_finetuning` goes from data to the report and the new weights;
`table.tabulate_finetunings` lists several by method.
"""

from faal_core.finetuning.call import finetune
from faal_core.finetuning.result import FinetuneResult
from faal_core.finetuning.table import FinetuningTable, tabulate_finetunings

__all__ = ["FinetuneResult", "FinetuningTable", "finetune", "tabulate_finetunings"]
