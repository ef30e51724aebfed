"""Owns the proxies that are compared: how each is configured and started, and what it promises to do meanwhile.

Must not know how they are measured. HAProxy and nginx are set up for this race as their manuals advise: one thread,
keep-alive on both sides, the least connections first.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from models import PORTS, nginx_directories
from peers import caddy, envoy, python_proxy, traefik

EDGE, PLAIN, DUTIES, NGINX = "sovren-edge", "HAProxy", "HAProxy, same duties", "nginx"
ENVOY, TRAEFIK, CADDY, AIOHTTP, FLOOR = "Envoy", "Traefik", "Caddy", "aiohttp proxy", "bare forwarder"
EDGE_PORT, EDGE_TLS_PORT = 19500, 19501
PLAIN_PORT, DUTIES_PORT, NGINX_PORT, ENVOY_PORT, TRAEFIK_PORT, CADDY_PORT, AIOHTTP_PORT, FLOOR_PORT = range(
    19510, 19518
)
# Each peer's TLS port is its port and this.
TLS_STEP = 20
PAIR = (Path(__file__).with_name("tls") / "localhost.pem", Path(__file__).with_name("tls") / "localhost.key")

HAPROXY_CONF = """
global
  nbthread 1
  maxconn 4096
  {log}
defaults
  mode http
  timeout connect 2s
  timeout client 75s
  timeout server 120s
listen relay
  bind 127.0.0.1:{port}
  bind 127.0.0.1:{tls_port} ssl crt {pem} alpn http/1.1
  balance leastconn
  http-reuse always
  {duties}
  {servers}
"""

HAPROXY_DUTIES = r"""log global
  option httplog
  option forwardfor
  unique-id-format %{+X}o\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id"""

NGINX_CONF = """
daemon off; worker_processes 1; pid nginx.pid; error_log nginx.err warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  {temporary}
  upstream models {{ least_conn; {servers} keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    listen 127.0.0.1:{tls_port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location / {{ proxy_pass http://models; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy; `log_mark` is in each line of `log` that is a request, `adds` are the fields that it adds to one."""

    name: str
    port: int
    tls_port: int | None
    command: tuple[str, ...]
    output: Path
    log: Path | None = None
    log_mark: bytes = b""
    adds: tuple[str, ...] = ()
    metrics: bool = False


def find_program(name: str) -> str | None:
    """Return a program's path; Debian keeps servers where a user's PATH does not look."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin")))


def installed_proxies(work: Path) -> list[Proxy]:
    """Return the edge and those of its peers that are installed here; their configurations are written to `work`."""
    proxies = [edge_proxy(work)]
    haproxy, nginx = find_program("haproxy"), find_program("nginx")
    if haproxy is not None:
        proxies += [_plain(haproxy, work), _duties(haproxy, work)]
    if nginx is not None:
        proxies.append(_nginx(nginx, work))
    for name, port, configure in (
        (ENVOY, ENVOY_PORT, envoy),
        (TRAEFIK, TRAEFIK_PORT, traefik),
        (CADDY, CADDY_PORT, caddy),
    ):
        program = find_program(name.lower())
        if program is not None:
            proxies.append(_peer(name, port, configure(program, work, port, PAIR), work))
    pair = tuple(map(str, PAIR))
    more = (str(AIOHTTP_PORT + TLS_STEP), *pair)
    proxies.append(_peer(AIOHTTP, AIOHTTP_PORT, python_proxy("aiohttp_proxy.py", AIOHTTP_PORT, *more), work))
    bare = Proxy(FLOOR, FLOOR_PORT, None, python_proxy("floor.py", FLOOR_PORT), work / "floor.out")
    return [*proxies, bare]


def _peer(name: str, port: int, command: tuple[str, ...], work: Path) -> Proxy:
    return Proxy(name, port, port + TLS_STEP, command, work / f"{name.split(maxsplit=1)[0].lower()}.out")


def edge_proxy(work: Path) -> Proxy:
    """Return the edge as its users start it, over the endpoints of relay.toml, with its log in `work`."""
    path, log = work / "relay.toml", work / "edge-access.log"
    settings = Path(__file__).with_name("relay.toml").read_text()
    settings = settings.replace('"tls/', f'"{PAIR[0].parent}/')
    path.write_text(f'{settings}\n[log]\npath = "{log}"\n')
    program = str(Path(sys.executable).with_name("sovren-edge"))
    return Proxy(
        EDGE,
        EDGE_PORT,
        EDGE_TLS_PORT,
        (program, "serve", "--config", str(path)),
        work / "edge.out",
        log=log,
        log_mark=b'"event":"request"',
        adds=("via", "x-request-id", "x-forwarded-for"),
        metrics=True,
    )


def _haproxy_conf(path: Path, port: int, *, log: str, duties: str, server_options: str) -> str:
    servers = "\n  ".join(f"server model-{n} 127.0.0.1:{at}{server_options}" for n, at in enumerate(PORTS, 1))
    pem = path.with_name("pair.pem")
    pem.write_text(PAIR[0].read_text() + PAIR[1].read_text())
    tls_port = port + TLS_STEP
    path.write_text(HAPROXY_CONF.format(port=port, tls_port=tls_port, pem=pem, log=log, duties=duties, servers=servers))
    return str(path)


def _plain(haproxy: str, work: Path) -> Proxy:
    conf = _haproxy_conf(work / "plain.cfg", PLAIN_PORT, log="", duties="", server_options="")
    return Proxy(PLAIN, PLAIN_PORT, PLAIN_PORT + TLS_STEP, (haproxy, "-db", "-f", conf), work / "plain.out")


def _duties(haproxy: str, work: Path) -> Proxy:
    """Its log goes to its standard output, which is a file here."""
    log, output = "log stdout format raw local0 info", work / "duties.out"
    conf = _haproxy_conf(
        work / "duties.cfg", DUTIES_PORT, log=log, duties=HAPROXY_DUTIES, server_options=" check inter 2s"
    )
    return Proxy(
        DUTIES,
        DUTIES_PORT,
        DUTIES_PORT + TLS_STEP,
        (haproxy, "-db", "-f", conf),
        output,
        log=output,
        log_mark=b' HTTP/1.1"',
        adds=("x-request-id", "x-forwarded-for"),
    )


def _nginx(nginx: str, work: Path) -> Proxy:
    path = work / "nginx.conf"
    servers = " ".join(f"server 127.0.0.1:{port};" for port in PORTS)
    conf = NGINX_CONF.format(
        port=NGINX_PORT, tls_port=NGINX_PORT + TLS_STEP, certificate=PAIR[0], key=PAIR[1], servers=servers,
        temporary=nginx_directories("nginx"),
    )  # fmt: skip
    path.write_text(conf)
    command = (nginx, "-p", str(work), "-c", str(path), "-e", str(work / "nginx.err"))
    return Proxy(NGINX, NGINX_PORT, NGINX_PORT + TLS_STEP, command, work / "nginx.out")
