"""The codes in the `error` of a job or an upload."""

from collections.abc import Mapping

from api.problems import errors as api
from api.problems.explanation import Explanation
from faal_core import errors as faal
from jobs import errors as jobs
from jobs.lifecycle import MAX_OUTAGES

JOB_ERRORS: Mapping[str, Explanation] = {
    faal.WeightsUnreadable.code: Explanation(
        "The weights cannot be read",
        "The file is damaged, has no weights, or could run code.",
        "Save the weights as safetensors, and upload them again.",
    ),
    faal.WeightsAmbiguous.code: Explanation(
        "The file has several sets of weights",
        "The file has several sets of weights, or none at the key that was given.",
        "Set `weights_key` to one of the keys that the message lists.",
    ),
    faal.WeightsMismatch.code: Explanation(
        "The weights do not fit the architecture",
        "The names or shapes of the weights are not those of the architecture.",
        "Compare the architecture, its arguments and the number of classes with those of your network.",
    ),
    faal.ClassifierUnsuitable.code: Explanation(
        "The network cannot be audited",
        "The network's outputs have the wrong width, are not finite, or differ between calls.",
        "Upload a network that returns one finite logit per class, in its evaluation mode.",
    ),
    faal.DatasetMissing.code: Explanation(
        "The data set's files are missing",
        "The files of a data set of the catalog are damaged, or not where the worker reads them.",
        "Tell the operator, who checks the folder `FAAL_DATASET_ROOT`.",
    ),
    faal.DatasetInvalid.code: Explanation(
        "The data set is invalid",
        "The uploaded data set breaks a rule of its format.",
        "Correct the array, file or class that the message names, and upload the data set again.",
    ),
    faal.TrainingDiverged.code: Explanation(
        "The training diverged", "The loss became NaN or infinite.", "Use a smaller learning rate."
    ),
    faal.LedgerMismatch.code: Explanation(
        "The ledger belongs to another audit",
        "The file that stores the results of an audit belongs to another audit.",
        "On the command line, name another file with `--ledger`. In a job this is a defect: report it with the job's "
        "id.",
    ),
    faal.OutOfTime.code: Explanation(
        "Not enough time",
        "No worker had started the job at its deadline, or its budget or deadline left a fine-tuning no time to train.",
        "Allow more time, or ask for less: fewer images or weaker attacks.",
    ),
    faal.OutOfMemory.code: Explanation(
        "Out of memory",
        "The device or the machine ran out of memory, or an upload needs more than `FAAL_VALIDATION_MEMORY` to be "
        "read.",
        "Use a smaller batch size, a smaller upload or a larger machine.",
    ),
    api.DatabaseUnavailable.code: Explanation(
        "The database was unavailable",
        f"Outages interrupted the job {MAX_OUTAGES} times. In the last one, the database could not be reached.",
        "Retry the job when `/readyz` reports that the database works.",
    ),
    jobs.StoreUnavailable.code: Explanation(
        "The object store was unavailable",
        f"Outages interrupted the job {MAX_OUTAGES} times. In the last one, the object store failed.",
        "Retry the job when `/readyz` reports that the storage works.",
    ),
    jobs.StorageFull.code: Explanation(
        "The disk was full",
        f"Outages interrupted the job {MAX_OUTAGES} times. In the last one, the storage or the worker's disk had no room for the "
        "job's files.",
        "Tell the operator, and retry the job when there is room.",
    ),
    jobs.FileLost.code: Explanation(
        "A stored file is missing or damaged",
        "A stored file that the job reads is missing, or its content has changed.",
        "Upload the file again, and tell the operator.",
    ),
    "worker-lost": Explanation(
        "The worker died",
        "The job's process or its worker died as many times as `FAAL_MAX_ATTEMPTS` allows, or could not read uploads "
        "at all.",
        "Retry the job. If that fails too, ask the operator for the worker's log.",
    ),
    faal.InvalidSpec.code: Explanation(
        "The spec does not fit the model or the data",
        "The spec contradicts the model or the data set, which showed only when they were loaded.",
        "Read the two values that the message names, and change one.",
    ),
    faal.GroupsMissing.code: Explanation(
        "No such column of groups",
        "The training or test images have no column of groups of the name that the method asks for.",
        "Choose a column that the message names, or upload images with such a column.",
    ),
    "internal-error": Explanation(
        "Internal error", "The service has a defect.", "Report it to the operator with the job's id."
    ),
}
