"""Check the PDF of a pack against the page in HTML: the page is typeset again."""

from faal_core.errors import InvalidSpec
from faal_core.evidence import pdf, strict_json
from faal_core.evidence.contents import ENVIRONMENT, PAGE, PDF, Contents
from faal_core.evidence.inventory import describe_environment
from faal_core.evidence.refusal import PackRefused
from faal_core.evidence.result import Check
from faal_core.results.reading import REPORT


def check_pdf(contents: Contents, digests: dict[str, str]) -> Check:
    """Check that the PDF is the page, which was checked before: the page is typeset again. Raises: PackRefused."""
    if PDF not in contents.members:
        return Check(name="pdf", status="not-checked", sentence=f"The pack has no {PDF}.")
    environment = strict_json.decode(contents.read(ENVIRONMENT), ENVIRONMENT)
    here = describe_environment() | {"typst": pdf.find_version()}
    written = environment if isinstance(environment, dict) else {}
    for name in ("faal", "typst", "system", "machine"):
        if written.get(name) != here[name]:
            sentence = (
                f"{PDF} was not typeset again: its environment has {name} {str(written.get(name))[:20]}, and this one has "
                f"{here[name] or 'none'}. Rely on {PAGE}."
            )
            return Check(name="pdf", status="not-checked", sentence=sentence)
    try:
        expected = pdf.typeset(contents.read(PAGE), digests[REPORT], contents.audited.created_at)
    except InvalidSpec as error:
        raise PackRefused(f"{PDF} cannot be the page: {error}") from None
    if expected != contents.read(PDF):
        raise PackRefused(f"{PDF} is not the PDF of {PAGE}.")
    return Check(name="pdf", status="passed", sentence=f"{PDF} shows what {PAGE} shows.")
