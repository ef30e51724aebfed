"""Owns the configurations of Envoy, Traefik, Caddy, an aiohttp proxy and the bare forwarder.

Must not know how they are measured. Each is set up as its manual advises for this work: connections to endpoints are
kept, the endpoint with the least requests is chosen, one thread serves, and nothing is logged.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import orjson
from models import PORTS

CADDY = """
{{
  admin off
  auto_https off
  persist_config off
}}
(models) {{
  reverse_proxy {models} {{
    lb_policy least_conn
    transport http {{
      keepalive_idle_conns_per_host 128
    }}
  }}
}}
http://127.0.0.1:{port} {{
  import models
}}
https://localhost:{tls_port}, https://127.0.0.1:{tls_port} {{
  tls {certificate} {key}
  import models
}}
"""

CONNECTION_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

TRAEFIK = """
[http.routers.plain]
rule = "PathPrefix(`/`)"
entryPoints = ["plain"]
service = "models"
[http.routers.secure]
rule = "PathPrefix(`/`)"
entryPoints = ["secure"]
service = "models"
[http.routers.secure.tls]
[http.services.models.loadBalancer]
strategy = "p2c"
{servers}
[[tls.certificates]]
certFile = "{certificate}"
keyFile = "{key}"
[tls.stores.default.defaultCertificate]
certFile = "{certificate}"
keyFile = "{key}"
"""


def caddy(program: str, work: Path, port: int, pair: tuple[Path, Path]) -> tuple[str, ...]:
    """Return the command that runs Caddy; its TLS port is `port` + 20, as everybody's."""
    path = work / "Caddyfile"
    models = " ".join(f"127.0.0.1:{at}" for at in PORTS)
    path.write_text(CADDY.format(models=models, port=port, tls_port=port + 20, certificate=pair[0], key=pair[1]))
    home = f"HOME={work}"
    return ("env", "GOMAXPROCS=1", home, program, "run", "--config", str(path), "--adapter", "caddyfile")


def traefik(program: str, work: Path, port: int, pair: tuple[Path, Path]) -> tuple[str, ...]:
    """Return the command that runs Traefik."""
    path = work / "traefik.toml"
    servers = "\n".join(f'[[http.services.models.loadBalancer.servers]]\nurl = "http://127.0.0.1:{at}"' for at in PORTS)
    path.write_text(TRAEFIK.format(servers=servers, certificate=pair[0], key=pair[1]))
    return (
        "env", "GOMAXPROCS=1", program, f"--entrypoints.plain.address=127.0.0.1:{port}",
        f"--entrypoints.secure.address=127.0.0.1:{port + 20}", f"--providers.file.filename={path}",
        "--providers.file.watch=false", "--serverstransport.maxidleconnsperhost=128", "--log.level=ERROR",
        "--global.checknewversion=false", "--global.sendanonymoususage=false",
    )  # fmt: skip


def envoy(program: str, work: Path, port: int, pair: tuple[Path, Path]) -> tuple[str, ...]:
    """Return the command that runs Envoy."""
    path = work / "envoy.json"
    context = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["http/1.1"],
            "tls_certificates": [
                {"certificate_chain": {"filename": str(pair[0])}, "private_key": {"filename": str(pair[1])}}
            ],
        },
    }
    tls = {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}
    endpoints = [{"endpoint": {"address": _address(at)}} for at in PORTS]
    limits = {"max_connections": 10_000, "max_pending_requests": 10_000, "max_requests": 10_000}
    cluster = {
        "name": "models",
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": "models", "endpoints": [{"lb_endpoints": endpoints}]},
    }
    listeners = [_envoy_listener(port, {}), _envoy_listener(port + 20, tls)]
    path.write_bytes(orjson.dumps({"static_resources": {"listeners": listeners, "clusters": [cluster]}}))
    return (program, "-c", str(path), "--concurrency", "1", "--log-level", "error", "--disable-hot-restart")


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_listener(port: int, tls: Mapping[str, object]) -> dict[str, object]:
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "models", "timeout": "120s"}}
    manager = {
        "@type": f"type.googleapis.com/{CONNECTION_MANAGER}",
        "stat_prefix": f"on_{port}",
        "codec_type": "HTTP1",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {"name": f"on_{port}", "address": _address(port), "filter_chains": [{"filters": filters, **tls}]}


def python_proxy(script: str, port: int, *more: str) -> tuple[str, ...]:
    """Return the command that runs one of the proxies beside this file."""
    return (sys.executable, str(Path(__file__).with_name(script)), str(port), *more, *map(str, PORTS))
