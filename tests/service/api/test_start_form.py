"""The form that starts a job: errors at their fields, data sets that fit, an estimate, and settings of an earlier job."""

import re
from html.parser import HTMLParser

import httpx
import pytest

from faal_core.specs import ClassifierSpec
from jobs import dataset_registry, lifecycle, model_registry
from jobs.results import StoredClassifier
from tests.service.api.conftest import serve
from tests.service.api.test_pages import Elements, start


class Form(HTMLParser):
    """The fields of the form that starts a job, as a browser would send them; disabled options are never chosen."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._select = ""
        self.feed(page[page.index('<form class="card start"') :].partition("</form>")[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a field."""
        fields = dict(attrs)
        value = fields.get("value") or ""
        if tag == "select":
            self._select = fields["name"] or ""
        elif tag == "option":
            if "disabled" not in fields and ("selected" in fields or self._select not in self.fields):
                self.fields[self._select] = value
        elif tag == "input" and (fields.get("type") != "radio" or "checked" in fields):
            self.fields[fields["name"] or ""] = value


def add_dataset(
    web, name: str, shape: list[int], classes: list[str], groups: tuple[str, ...] = (), **images: int
) -> str:
    """Add a data set that is ready, with these columns of groups in both parts, and return its id."""
    columns = {"groups": {column: ["a", "b"] for column in groups}, "training_groups": list(groups)}
    file = web.site.storage.put([name.encode()], media_type="application/zip")
    with web.site.sessions.begin() as session:
        dataset, check = dataset_registry.register_upload(session, name=name, upload=file, owner="local")
        lifecycle.claim(session, check.id, worker="test", lease_seconds=600)
        summary = {"shape": shape, "class_names": classes, "images": images, **columns}
        lifecycle.succeed(session, check.id, 1, summary=summary)
        return dataset.id


def add_model(web, name: str, **fields: object) -> str:
    """Add a model that is ready, and return its id."""
    spec = ClassifierSpec(architecture="small_resnet", **fields)
    file = web.site.storage.put([name.encode()], media_type="application/vnd.safetensors")
    with web.site.sessions.begin() as session:
        model, check = model_registry.register_upload(session, name=name, spec=spec, upload=file, owner="local")
        lifecycle.claim(session, check.id, worker="test", lease_seconds=600)
        lifecycle.succeed(session, check.id, 1, result_model=StoredClassifier(file, spec, "d" * 64))
        return model.id


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"epsilon": "8/0"}, "epsilon", "is not a radius"),
        ({"model": "model_0"}, "model", "There is no model"),
        ({"dataset": "cifar100"}, "dataset", "The model has 10 classes"),
        ({"dataset": "nothing"}, "dataset", "nothing"),
        ({"seed": "-1"}, "seed", "should be greater than or equal to 0"),
        ({"images": "0"}, "images", "should be greater than or equal to 1"),
        ({"images": "9"}, "images", "9 is out of bounds"),
        ({"kind": "finetune", "images": "3001"}, "images", "has 3,000 test images"),
        ({"kind": "finetune", "epochs": "many"}, "epochs", "cannot be read"),
        ({"kind": "finetune", "learning_rate": "-1"}, "learning_rate", "should be greater than"),
        ({"kind": "finetune", "dro_radius": "x"}, "dro_radius", "should be a valid number"),
        ({"kind": "finetune", "groups": "x" * 101}, "groups", "at most 100 characters"),
        ({"kind": "finetune", "groups": "site"}, "groups", "no column of groups &#39;site&#39;; it has none"),
        ({"kind": "finetune", "groups": "site", "method": "uniform"}, "groups", "choose one of faal, head, hwnwb"),
        ({"kind": "finetune", "method": "magic"}, "method", "magic"),
        ({"kind": "finetune", "steps": "0"}, "steps", "should be greater than or equal to 1"),
        ({"kind": "finetune", "max_class_drop": "much"}, "max_class_drop", "is not a number of percentage points"),
        ({"kind": "finetune", "augment": "spin", "seed": "x"}, "augment", "spin"),
    ],
)
def test_an_error_is_at_its_field(web, change: dict[str, str], field: str, reason: str) -> None:
    """The message of an error describes its field, which is marked, has the focus, and is linked from the summary."""
    page = start(web, **{"model": web.model()} | change)
    elements = [attributes for _, attributes in Elements(page).elements]
    wrong = next(attributes for attributes in elements if attributes.get("name") == field and "id" in attributes)
    assert wrong["aria-invalid"] == "true"
    assert [attributes.get("id") for attributes in elements if "autofocus" in attributes] == [field]
    descriptions = (wrong["aria-describedby"] or "").split()
    assert descriptions[0] == f"{field}-error"
    assert set(descriptions) <= {attributes.get("id") for attributes in elements}
    message = re.search(rf'<small id="{field}-error" class="bad">([^<]*)<', page.text)
    assert message
    assert reason in message[1]
    assert f'<li><a href="#{field}">' in page.text


@pytest.mark.slow
def test_an_error_without_a_field_has_the_focus_itself(tmp_path) -> None:
    """A refusal that no field explains, such as a quota, is focused itself."""
    for web in serve(tmp_path, {"quota_jobs": 1}):
        model = web.model()
        web.audit(model)
        page = start(web, model=model)
        assert page.status_code == 429
        assert '<div class="refusal" role="alert" tabindex="-1" autofocus>' in page.text
        assert "aria-invalid" not in page.text


def test_more_settings_stay_open(web) -> None:
    """More settings are open after an error, and whenever one of them differs from its default."""
    model = web.model()
    closed = web.client.get("/").text
    refused = start(web, model=model, epsilon="8/0").text
    like = web.audit(model, seed=7)
    assert ["<details open>" in page for page in (closed, refused, web.client.get(f"/?like={like}").text)] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(("kind", "method"), [("audit", "uniform"), ("finetune", "uniform"), ("finetune", "faal")])
def test_a_job_is_started_again_with_its_settings(web, kind: str, method: str) -> None:
    """The form that a finished job offers has all its settings: sent as it is, it starts a job with the same spec."""
    fields = {
        "model": web.model(),
        "kind": kind,
        "norm": "l2",
        "epsilon": "0.123456789",
        "attacks": "fast",
        "images": "77",
        "seed": "5",
        "method": method,
        "epochs": "3",
        "learning_rate": "0.02",
        "batch_size": "9",
        "steps": "4",
        "augment": "flip",
        "max_robust_drop": "",
        "max_clean_drop": "2.5",
        "max_class_drop": "7",
    }
    if method == "faal":
        dataset = add_dataset(web, "sites", [1, 28, 28], [*"0123456789"], ("site",), train=900, test=90)
        fields |= {"method": method, "dro_radius": "0.0", "groups": "site", "dataset": dataset}
    first = start(web, **fields).headers["Location"].removeprefix("/ui")
    web.client.post(f"{first}/cancel")
    link = re.search(r'href="(/\?like=[^"#]*)', web.client.get(f"/ui{first}").text)
    assert link
    page = web.client.get(link[1]).text
    assert "has settings that this form has no field for" not in page
    again = web.client.post("/ui/jobs", data=Form(page).fields).headers["Location"].removeprefix("/ui")
    assert again != first
    compared = (
        fields.keys() if kind == "finetune" else ("kind", "model", "norm", "epsilon", "attacks", "images", "seed")
    )
    assert {name: Form(page).fields[name] for name in compared} == {name: fields[name] for name in compared}
    one, other = (web.client.get(address).json() for address in (first, again))
    assert [(job["kind"], job["model"], job["dataset"], job["spec"]) for job in (one, other)] == [
        (kind, fields["model"], fields.get("dataset", "fashion-mnist-subset"), one["spec"])
    ] * 2


def test_the_form_begins_with_an_audit(web) -> None:
    """An audit is cheap and changes nothing, so the form begins with it, with and without a model."""
    for address in ("/", f"/?model={web.model()}"):
        assert Form(web.client.get(address).text).fields["kind"] == "audit"


def test_an_empty_bound_is_no_bound(web) -> None:
    """A fine-tuning from a form with empty bounds has none; the form begins with the default bounds."""
    begin = Form(web.client.get(f"/?model={web.model()}").text).fields
    assert begin["max_robust_drop"] == "1"
    bounds = ("max_robust_drop", "max_clean_drop", "max_class_drop")
    form = begin | {"kind": "finetune"} | dict.fromkeys(bounds, "")
    job = web.client.post("/ui/jobs", data=form).headers["Location"].removeprefix("/ui")
    training = web.client.get(job).json()["spec"]["training"]
    assert [training[name] for name in bounds] == [None] * 3


def test_settings_without_a_field_are_reported(web) -> None:
    """The form says so when the other job has settings that it cannot show; a check of an upload is refused."""
    custom = web.audit(attacks=[{"type": "pgd", "steps": 3}])
    assert "has settings that this form has no field for" in web.client.get(f"/?like={custom}").text
    check = web.client.get("/jobs", params={"kind": "check-model"}).json()["data"][0]["id"]
    assert web.client.get(f"/?like={check}").status_code == 409
    assert web.client.get("/?like=job_0").status_code == 404


def test_only_data_sets_that_fit_are_offered(web) -> None:
    """With a model, the form offers data sets with its channels and classes, and with training images for a fine-tuning."""
    model = add_model(web, "rgb", num_classes=3, mean=[0.5] * 3, std=[0.5] * 3, class_names=["a", "b", "c"])
    ids = {
        "fits": add_dataset(web, "fits", [3, 8, 8], ["a", "b", "c"], train=9, test=9),
        "some classes": add_dataset(web, "some classes", [3, 8, 8], ["c", "b"], train=9, test=9),
        "audits only": add_dataset(web, "audits only", [3, 8, 8], ["x", "y", "z"], test=9),
        "grey": add_dataset(web, "grey", [1, 8, 8], ["a", "b", "c"], train=9, test=9),
        "ten": add_dataset(web, "ten", [3, 8, 8], list("0123456789"), train=9, test=9),
    }

    def offered(page: httpx.Response) -> set[str]:
        options = {attributes.get("value") for tag, attributes in Elements(page).elements if tag == "option"}
        return {name for name, dataset in ids.items() if dataset in options}

    address = "/ui/start/datasets"
    assert offered(web.client.get(address, params={"model": model, "kind": "audit"})) == {
        "fits",
        "some classes",
        "audits only",
    }
    finetuning = web.client.get(address, params={"model": model, "kind": "finetune", "dataset": ids["fits"]})
    assert offered(finetuning) == {"fits", "some classes"}
    assert f'value="{ids["fits"]}" selected' in finetuning.text
    assert "fashion-mnist" not in finetuning.text
    assert offered(web.client.get(address)) == set(ids)
    assert offered(web.client.get(f"/?model={model}")) == {"fits", "some classes", "audits only"}
    lonely = add_model(web, "lonely", num_classes=77, mean=[0.5] * 2, std=[0.5] * 2)
    assert "No data set here fits this model" in web.client.get(address, params={"model": lonely}).text


def test_the_form_estimates_as_the_api_does(web) -> None:
    """The form shows the estimate of the API: passes at first, minutes after a report; for a wrong form, the reason."""
    model = add_model(web, "estimated", num_classes=10, arguments={"width": 17})
    form = {"kind": "audit", "model": model, "attacks": "quick", "dataset": "fashion-mnist-subset"}
    body = {"kind": "audit", "model": model, "attacks": "quick", "dataset": "fashion-mnist-subset"}
    body["threat"] = {"epsilon": "8/255"}

    def show(**changes: str) -> str:
        answer = web.client.post("/ui/start/estimate", data=form | changes)
        assert answer.status_code == 200
        return answer.text

    job = web.audit(model)
    web.run(job)
    web.succeed(job)
    estimate = web.client.post("/jobs/estimate", json=body).json()
    assert estimate["measured_by"] == job
    assert f"About {max(1, round(60 * estimate['minutes']))} s" in show()
    assert f'href="/ui/jobs/{job}"' in show()
    assert "There is no estimate: &#39;8/0&#39; is not a radius" in show(epsilon="8/0")
    assert "Choose a model" in show(model="")
    assert "no model" in show(model="model_0")


def test_the_bundled_model_is_added_once(own_web) -> None:
    """An empty list offers the bundled model; the button adds it once, again only after a deletion, and opens the form."""
    client = own_web.client
    for address in ("/", "/ui/models"):
        assert '<form method="post" action="/ui/models/bundled">' in client.get(address).text
    locations = [client.post("/ui/models/bundled").headers["Location"] for _ in range(2)]
    assert locations[0] == locations[1]
    model = locations[0].removeprefix("/ui")
    (check,) = client.get("/jobs", params={"kind": "check-model"}).json()["data"]
    with own_web.site.sessions.begin() as session:
        lifecycle.claim(session, check["id"], worker="test", lease_seconds=600)
        row = model_registry.find_model(session, check["model"])
        spec = ClassifierSpec.model_validate(row.spec)
        file = own_web.site.storage.put([b"as stored by the check"], media_type="application/vnd.safetensors")
        lifecycle.succeed(session, check["id"], 1, result_model=StoredClassifier(file, spec, "d" * 64))
    ready = client.post("/ui/models/bundled").headers["Location"]
    assert ready == f"/?model={check['model']}#start-heading"
    fields = Form(client.get(ready).text).fields
    assert (fields["kind"], fields["epsilon"], fields["images"]) == ("audit", "0.1", "2000")
    # Without a report about the architecture, the estimate has the largest number of passes.
    assert "At most 2,200 passes" in client.post("/ui/start/estimate", data=fields | {"images": "100"}).text
    assert client.post("/ui/jobs", data=fields).status_code == 303
    assert client.get(model).json()["spec"] == row.spec
    other = own_web.model("bundled classifier")
    assert client.post("/ui/models/bundled").headers["Location"] == ready
    assert other != check["model"]
