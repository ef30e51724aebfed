"""What the configuration may say of the gateway."""

import base64
import re
import tomllib
from ipaddress import ip_network
from pathlib import Path

import orjson
import pytest
from pydantic import ValidationError

from sovren_edge.gateway.settings import GatewaySettings
from sovren_edge.secret import SecretSource

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


KEYS = "one:" + base64.b64encode(bytes(32)).decode()


def test_keys_are_read_from_where_the_file_says() -> None:
    """And are judged there."""
    settings = GatewaySettings.model_validate_json('{"credential_keys": "env:KEYS"}', context=secrets(KEYS))
    assert settings.credential_keys is not None
    assert settings.credential_keys.get_secret_value() == KEYS
    assert KEYS not in repr(settings)


@pytest.mark.parametrize("text", ["hush", f"{KEYS},hush", "hush:AAAA", f"{KEYS},{KEYS}"])
def test_what_are_no_keys_is_a_fault_that_does_not_show_them(text: str) -> None:
    """Their form is named."""
    with pytest.raises(ValidationError, match="name:BASE64") as caught:
        GatewaySettings.model_validate_json('{"credential_keys": "env:KEYS"}', context=secrets(text))
    assert "hush" not in str(caught.value)


def secrets(text: str) -> dict[str, SecretSource]:
    """Return a context in which KEYS is this."""
    return {"secrets": SecretSource({"KEYS": text})}


def test_a_service_may_need_a_credential() -> None:
    """Otherwise it is called without one, too."""
    services = {"slack": {"hosts": ["slack.com"], "credential": "required"}, "zoom": {"hosts": ["zoom.us"]}}
    settings = GatewaySettings.model_validate_json(_json(services))
    assert [service.credential for service in settings.services.values()] == ["required", "optional"]


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


def test_the_examples_of_the_documentation_can_be_copied() -> None:
    """Each is a table that the gateway takes."""
    text = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text(encoding="utf-8")
    examples = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert examples
    for example in examples:
        GatewaySettings.model_validate_json(orjson.dumps(tomllib.loads(example)["gateway"]))


@pytest.mark.parametrize("url", ["redis://:word@redis:6379/1", "rediss://redis", "unix:///run/valkey.sock"])
def test_redis_is_a_secret(url: str) -> None:
    """Named, and never printed."""
    context = {"secrets": SecretSource({"REDIS": url})}
    settings = GatewaySettings.model_validate_json('{"redis": "env:REDIS"}', context=context)
    assert settings.redis is not None
    assert settings.redis.get_secret_value() == url
    assert url not in repr(settings)


def test_a_redis_of_another_form_is_a_fault() -> None:
    """Which does not tell what it is."""
    context = {"secrets": SecretSource({"REDIS": "http://word@redis"})}
    with pytest.raises(ValidationError, match="not of the form redis") as fault:
        GatewaySettings.model_validate_json('{"redis": "env:REDIS"}', context=context)
    assert "word@redis" not in str(fault.value)
