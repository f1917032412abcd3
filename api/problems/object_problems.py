"""Codes that answer requests about jobs, models, data sets and other objects."""

from collections.abc import Mapping
from http import HTTPStatus

from api.problems.explanation import ProblemExplanation
from faal_core import errors as faal
from jobs import errors as jobs

OBJECT_PROBLEMS: Mapping[str, ProblemExplanation] = {
    faal.InvalidSpec.code: ProblemExplanation(
        "The spec does not fit the model or the data",
        "The spec contradicts itself, the model or the data set, for example in the number of classes.",
        "Read the two values that the detail names, and change one.",
        HTTPStatus.UNPROCESSABLE_ENTITY,
    ),
    faal.GroupsMissing.code: ProblemExplanation(
        "No such column of groups",
        "The method names a column of groups that the training or test images do not have.",
        "Choose a column that the detail lists, or upload images with such a column. The data sets of the catalog have none.",
        HTTPStatus.UNPROCESSABLE_ENTITY,
    ),
    faal.UnknownName.code: ProblemExplanation(
        "Unknown name",
        "No data set or preset has this name.",
        "Choose a name that `GET /catalog` lists.",
        HTTPStatus.UNPROCESSABLE_ENTITY,
    ),
    faal.WeightsUnreadable.code: ProblemExplanation(
        "The weights cannot be read",
        "The header of the file is damaged, or the file could run code.",
        "Save the weights as safetensors.",
        HTTPStatus.UNPROCESSABLE_ENTITY,
    ),
    faal.DatasetMissing.code: ProblemExplanation(
        "The data set's files are missing",
        "The catalog has the data set, but this service does not have its files.",
        "Upload the data set, or choose one that `GET /catalog` lists as `available`. An administrator can add the "
        "files to `FAAL_DATASET_ROOT`.",
        HTTPStatus.CONFLICT,
    ),
    jobs.JobNotFound.code: ProblemExplanation(
        "Job not found", "No job has this id.", "Look up the id with `GET /jobs`.", HTTPStatus.NOT_FOUND
    ),
    jobs.CandidateNotFound.code: ProblemExplanation(
        "Candidate not found",
        "The report of the fine-tuning has no candidate with this number.",
        "Use the candidate's index in `candidates` of the report. The first one is 0.",
        HTTPStatus.NOT_FOUND,
    ),
    jobs.LinkNotFound.code: ProblemExplanation(
        "Link not found",
        "The link was never made, has expired or was revoked, or its job was deleted.",
        "Ask the person who sent you the link for a new one.",
        HTTPStatus.NOT_FOUND,
    ),
    jobs.OutcomesNotFound.code: ProblemExplanation(
        "No outcomes are stored",
        "The report was written by a version of FAAL that did not store the outcome of each image.",
        "Audit the model again.",
        HTTPStatus.NOT_FOUND,
    ),
    jobs.ModelNotFound.code: ProblemExplanation(
        "Model not found",
        "No model has this id, or none with the name in the plan is ready.",
        "Look up the id and the name with `GET /models`.",
        HTTPStatus.NOT_FOUND,
    ),
    jobs.DatasetNotFound.code: ProblemExplanation(
        "Data set not found",
        "No uploaded data set has this id.",
        "Look up the id with `GET /datasets`.",
        HTTPStatus.NOT_FOUND,
    ),
    jobs.UploadNotFound.code: ProblemExplanation(
        "Upload not found",
        "No upload in parts has this id, or no part arrived for a day.",
        "Begin a new upload with `POST /uploads`.",
        HTTPStatus.NOT_FOUND,
    ),
    jobs.WebhookNotFound.code: ProblemExplanation(
        "Webhook not found", "No webhook has this id.", "Look up the id with `GET /webhooks`.", HTTPStatus.NOT_FOUND
    ),
    jobs.PlanNotFound.code: ProblemExplanation(
        "Plan not found", "No plan has this id.", "Look up the id with `GET /plans`.", HTTPStatus.NOT_FOUND
    ),
    jobs.StudyNotFound.code: ProblemExplanation(
        "Study not found", "No study has this id.", "Look up the id with `GET /studies`.", HTTPStatus.NOT_FOUND
    ),
    jobs.UploadIncomplete.code: ProblemExplanation(
        "Parts of the upload are missing",
        "The upload does not have all of its parts.",
        "Send the parts that the detail lists.",
        HTTPStatus.CONFLICT,
    ),
    jobs.UploadComplete.code: ProblemExplanation(
        "The upload is complete",
        "A part arrived after the parts of the upload were joined into one file.",
        "Begin a new upload with `POST /uploads`.",
        HTTPStatus.CONFLICT,
    ),
    jobs.ModelNotReady.code: ProblemExplanation(
        "The model is not ready",
        "The model is still being checked, or it was rejected or deleted.",
        "Wait until its `status` is `ready`. If it is `rejected`, read the reason in its `error`.",
        HTTPStatus.CONFLICT,
    ),
    jobs.DatasetNotReady.code: ProblemExplanation(
        "The data set is not ready",
        "The data set is still being checked, or it was rejected or deleted.",
        "Wait until its `status` is `ready`. If it is `rejected`, read the reason in its `error`.",
        HTTPStatus.CONFLICT,
    ),
    jobs.JobStateConflict.code: ProblemExplanation(
        "The job's status does not allow this",
        "A job that ended cannot be cancelled or paused. Only a job that failed or was cancelled can be retried. "
        "Checks of uploads have no report. Only audits and fine-tunings that have succeeded can be compared. "
        "A plan runs only one audit at a time.",
        "Read the job's `status` and `kind`.",
        HTTPStatus.CONFLICT,
    ),
    jobs.InUse.code: ProblemExplanation(
        "A job or plan still needs it",
        "A job that has not ended, such as a comparison, needs the object that you want to delete, or the object is the "
        "baseline of a plan.",
        "Cancel the job, or wait until it ends. Choose another baseline for the plan, or delete the plan.",
        HTTPStatus.CONFLICT,
    ),
    jobs.FileLost.code: ProblemExplanation(
        "A stored file is missing or damaged",
        "A stored file is missing, or its content has changed.",
        "Upload the file again, which restores it for every object that uses it. Tell the operator.",
        HTTPStatus.GONE,
    ),
    jobs.FileVanished.code: ProblemExplanation(
        "The file was removed meanwhile",
        "Another request removed the same content while this request registered it.",
        "Send the request again.",
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
    jobs.JobFailed.code: ProblemExplanation(
        "The job failed",
        "The job has no report because it failed.",
        "Read the code and the message of the job in `error`. The code has its own page.",
        HTTPStatus.CONFLICT,
    ),
    jobs.JobCancelled.code: ProblemExplanation(
        "The job was cancelled",
        "The job has no report because it was cancelled. A cancelled audit has a report only if its clean "
        "predictions were complete and there was time to write it.",
        "Submit the job again, or retry it.",
        HTTPStatus.CONFLICT,
    ),
    jobs.IdempotencyConflict.code: ProblemExplanation(
        "The idempotency key was used for another request",
        "An earlier request with other content has the same `Idempotency-Key`.",
        "Use a new key for a new request.",
        HTTPStatus.UNPROCESSABLE_ENTITY,
    ),
}
