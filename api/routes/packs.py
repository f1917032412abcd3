"""Evidence packs: a report with its evidence in one file, and the key that signs such files."""

from fastapi import APIRouter

from api.access.authentication import ReaderDep
from api.problems.errors import SigningKeyNotFound
from api.schemas.packs import PackRequest
from api.serving.dependencies import Id
from api.serving.packs import KEY_HEADER, MEDIA_TYPE, answer_with_pack, pack_job
from api.serving.stored_files import StoredFileResponse
from faal_client.resources.signing import SigningKeyResource

router = APIRouter()


@router.post(
    "/jobs/{id}/pack",
    summary="Download the evidence pack of a report",
    tags=["jobs"],
    response_class=StoredFileResponse,
    responses={
        200: {
            "description": "The pack, which `faal verify` checks",
            "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
            "headers": {
                KEY_HEADER: {
                    "description": "id of the key that signed the pack; absent where the pack is not signed",
                    "schema": {"type": "string"},
                }
            },
        }
    },
)
def pack_job_report(job_id: Id, body: PackRequest, service: ReaderDep) -> StoredFileResponse:
    """Pack the report of an audit or a fine-tuning with the outcome of each image, as `faal pack` does, and return the file.

    With a policy, the pack has the policy, its signature and its result. Of a comparison of the same images the pack is that of
    the second audit; the first audit is the baseline of the policy. The service signs the pack if its operator has set a key.
    It does not store the pack.
    """
    return answer_with_pack(pack_job(service, job_id, body))


@router.get("/signing-key", summary="Get the public key of the service's evidence packs", tags=["jobs"])
def get_signing_key(service: ReaderDep) -> SigningKeyResource:
    """Return the public key that checks the signatures of this service's packs.

    Give the key to verifiers by another way than the pack. A verifier should compare the id with one from the operator.
    """
    if service.signer is None:
        raise SigningKeyNotFound("This service signs no packs. Ask the operator to set FAAL_SIGNING_KEY.")
    key = service.signer.public_key
    return SigningKeyResource(key_id=key.key_id, public_key=key.pem, signer=service.signer.name)
