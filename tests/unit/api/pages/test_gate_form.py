"""The form of limits becomes a policy, and the text of its file."""

import json

import pytest

from api.pages.gate_form import GateForm
from api.schemas.packs import MOST_POLICY_TEXT
from api.schemas.requests import PolicyRequest
from api.serving.policy_text import parse_policy_text

TEXT = "# of the board\nmin_clean: 0.1\n"


@pytest.mark.parametrize("name", ["bag", "a\x85b", "a\u2028b", "no", "a: b # c"])
def test_the_written_file_is_the_policy(name) -> None:
    """The text reads back as the same policy, also where YAML cannot hold the name of a class."""
    written = GateForm(min_class=f"{name} = 40", epsilon="8/255").read()
    assert written.policy.min_class == {name: 0.4}
    assert PolicyRequest.model_validate(parse_policy_text(written.text)) == written.policy


@pytest.mark.parametrize(
    ("original", "entry", "text"),
    [
        (TEXT, TEXT, TEXT),
        (TEXT.replace("\n", "\r\n"), TEXT, TEXT.replace("\n", "\r\n")),
        (TEXT, "# changed\n" + TEXT, "# changed\n" + TEXT),
        ("", TEXT, TEXT),
        ("x" * (MOST_POLICY_TEXT + 1), TEXT, TEXT),
    ],
)
def test_a_text_keeps_its_line_ends(original, entry, text) -> None:
    """A browser sends CRLF. A text that the page had keeps its own line ends; another one gets those of Unix."""
    form = GateForm(policy=entry.replace("\n", "\r\n"), policy_as_read=GateForm(policy=original).policy_json_text)
    assert form.with_file().policy == text
    assert form.with_file().read().text == text
    assert GateForm(policy=entry, policy_as_read=json.dumps([TEXT])).with_file().policy == entry
