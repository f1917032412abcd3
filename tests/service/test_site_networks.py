"""A site's own networks in real processes: the web service names them, and workers build them."""

from pathlib import Path

import httpx
import pytest
import torch
from torch import nn

from faal_client import Client, UploadRejected
from faal_core.results.documents import AuditReport
from faal_core.specs import AuditSpec, ClassifierDescription
from tests.service.processes import FILES, SERVERS
from tests.service.small_jobs import AUDIT, noise

NETS = '''
from typing import Annotated

from pydantic import Field
from torch import nn


def pooled_net(num_classes: int, channels: int, width: Annotated[int, Field(ge=2, le=16)] = 4) -> nn.Module:
    """Two convolutions and a mean over positions."""
    first = nn.Conv2d(channels, width, 3, padding=1)
    rest = [nn.ReLU(), nn.Conv2d(width, width, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(first, *rest, nn.Linear(width, num_classes))


def failing_net(num_classes: int, channels: int) -> nn.Module:
    raise RuntimeError("there is no such layer")
'''


@pytest.mark.slow
@pytest.mark.parametrize("site", [FILES, SERVERS], indirect=True)
def test_a_sites_network_is_uploaded_and_audited(site, tmp_path: Path) -> None:
    """Weights of a network that only the site's file defines are checked and audited over HTTP."""
    file = tmp_path / "nets.py"
    file.write_text(NETS)
    spec = ClassifierDescription(architecture="site/pooled_net", num_classes=3, arguments={"width": 6})
    wrong = ClassifierDescription(architecture="site/failing_net", num_classes=3)
    site.settings = site.settings.model_copy(update={"networks": file})
    site.api()
    site.worker()
    convolutions = [nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2), nn.ReLU()]
    network = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    torch.save({"state_dict": network.state_dict()}, tmp_path / "net.pt")
    (tmp_path / "noise.npz").write_bytes(noise())
    address = f"http://127.0.0.1:{site.settings.port}"
    names = {entry["name"] for entry in httpx.get(f"{address}/catalog?search=SITE/").json()["architectures"]}
    assert names == {"site/pooled_net", "site/failing_net"}
    with Client(address) as client:
        model = client.wait_until_ready(client.upload_model(tmp_path / "net.pt", spec=spec))
        data = client.wait_until_ready(client.upload_dataset(tmp_path / "noise.npz"))
        audited = client.report(client.submit_audit(model.id, data.id, AuditSpec.model_validate(AUDIT)).id)
        with pytest.raises(UploadRejected, match=r"site/failing_net cannot be built from nets\.py"):
            client.wait_until_ready(client.upload_model(tmp_path / "net.pt", spec=wrong))
    assert isinstance(audited, AuditReport)
    assert audited.classifier.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert audited.classifier.spec.architecture == "site/pooled_net"
