"""What the configuration may say of the gateway."""

from ipaddress import ip_network

import orjson
import pytest
from pydantic import ValidationError

from sovren_edge.gateway.settings import GatewaySettings

SERVICES = {
    "slack": {"hosts": ["slack.com"]},
    "hubspot": {"hosts": ["hubspot.com", "api.hubapi.com"], "mode": "report"},
}


def test_services_and_their_hosts() -> None:
    """As the policy asks for them."""
    settings = GatewaySettings.model_validate_json(_json(SERVICES))
    assert settings.hosts == {"slack": ("slack.com",), "hubspot": ("hubspot.com", "api.hubapi.com")}
    assert [service.mode for service in settings.services.values()] == ["enforce", "report"]


def _json(services: object = None, rehearsal: object = None) -> str:
    return orjson.dumps({"services": services or {}, "rehearsal": rehearsal}).decode()


@pytest.mark.parametrize(
    "host", ["com", "Slack.com", "*.slack.com", ".slack.com", "slack.com.", "127.0.0.1", "a/b", ""]
)
def test_what_is_no_host_is_a_fault(host: str) -> None:
    """A whole top-level domain, too."""
    with pytest.raises(ValidationError, match="name of a host"):
        GatewaySettings.model_validate_json(_json({"slack": {"hosts": [host]}}))


def test_a_service_has_hosts() -> None:
    """Otherwise it could not be called."""
    with pytest.raises(ValidationError):
        GatewaySettings.model_validate_json(_json({"slack": {"hosts": []}}))


def test_a_rehearsal_names_its_stage() -> None:
    """A DNS server and networks, each in the form of others."""
    stage = GatewaySettings.model_validate_json(_json(None, {"dns": "127.0.0.1:53", "networks": ["127.0.0.0/8"]}))
    assert stage.rehearsal is not None
    assert stage.rehearsal.networks == (ip_network("127.0.0.0/8"),)
    for wrong in ({"networks": ["127.0.0.1/8"]}, {"networks": [5]}, {"dns": "localhost"}):
        with pytest.raises(ValidationError):
            GatewaySettings.model_validate_json(_json(None, wrong))
