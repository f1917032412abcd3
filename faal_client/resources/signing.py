"""The key that signs evidence packs, as JSON."""

from typing import Literal

from pydantic import Field

from faal_client.resources.objects import Resource


class SigningKeyResource(Resource):
    """The public key that checks the signatures of a service's evidence packs."""

    object: Literal["signing-key"] = "signing-key"
    key_id: str = Field(description="SHA-256 of the key as DER (SubjectPublicKeyInfo), in hexadecimal")
    public_key: str = Field(description="the Ed25519 key in PEM, for `faal verify --key`")
    signer: str | None = Field(description="name of the signer as packs state it; null where they state none")
