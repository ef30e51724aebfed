"""Every fault is told, all at once, with its path, what was found, what was expected, and a hint; never a secret."""

from pathlib import Path

import pytest

from sovren_edge.config.fault import ConfigurationError, Fault, nearest, one_of
from sovren_edge.config.load import load_config, load_gateway
from sovren_edge.secret import SecretSource
from tests.config.config_texts import ECHO, MINIMAL, TWO_NODES
from tests.config.conftest import Judge, Load

EVERYTHING = """
[nodes]
g367 = "10.15.38.1"
g374 = "10.15.38.999"
"Bad Name" = "10.0.0.1"

[edge]
drian_s = 5
trusted = ["10.0.0.1/8", 5]

[relay]
connect_timeout_s = inf

[log]
level = "warn"

[pool.x]

[pools.a]
slots = 0
tiers = ["b"]
kind = "speach"

[pools.b]
tiers = ["a", "zz"]

[pools.c]
endpoints = ["g376:80", "g367:8090", "10.15.38.1:8090", "127.0.0.1:8090", "x", "1.2.3.4:99999", "300.1.1.1:80"]

[pools.d]

[pools.e]
endpoints = ["10.0.0.1:80"]
tiers = ["c", "c"]
slots = "many"

[listeners.one]
kind = "balance"
node = "g367"
port = 8090
pool = "c"
auth = "none"

[listeners.two]
kind = "balanced"
node = "g367"
port = 8090
pool = "cc"
auth = "none"

[listeners.three]
kind = "handler"
node = "g368"
prot = 8090
handler = "executive"

[listeners.four]
port = "1"

[listeners.five]
kind = "gateway"
node = "g367"
port = 70000
auth = "jwt"
"""

GOLDEN = """\
nodes.g374: "10.15.38.999" | an IPv4 or IPv6 address |
nodes.Bad Name: this name | text of the pattern ^[a-z][a-z0-9-]{0,62}$ |
edge.trusted.0: "10.0.0.1/8" | a network, as in 10.0.0.0/8 (10.0.0.1/8 has host bits set) |
edge.trusted.1: 5 | a network, as in 10.0.0.0/8 ('' does not appear to be an IPv4 or IPv6 network) |
edge.drian_s: an unknown key | backlog, bind, connections, connections_per_address, debug, drain_s, trusted, \
unready_s or workers \
| did you mean drain_s?
log.level: "warn" | "debug", "error", "info" or "warning" | did you mean warning?
pools.a.kind: "speach" | "generic" or "speech" | did you mean speech?
pools.a.slots: 0 | greater than or equal to 1 |
pools.d: an empty table | a pool has endpoints, dns or tiers, and only one of them |
pools.e.slots: "many" | a valid integer |
listeners.two.kind: "balanced" | "balance", "gateway", "handler" or "status" | did you mean balance?
listeners.three.port: nothing | a value: this key is required |
listeners.three.prot: an unknown key \
| allow, auth, handler, kind, node, planned, port, proxy_protocol, service, settings or tls | did you mean port?
listeners.four.kind: nothing | a value: this key is required |
listeners.five.port: 70000 | less than or equal to 65535 |
listeners.five.auth: "jwt" | "none" |
pool: an unknown key | auth, database, edge, gateway, listeners, log, nodes, pools, relay, services or tracing \
| did you mean pools?
relay.connect_timeout_s: inf | a finite number |
listeners.three.node: "g368" | Bad Name, g367 or g374 | did you mean g367?
listeners.four.node: nothing | Bad Name, g367 or g374 | where there are nodes, every listener belongs to one
listeners.two.port: 8090 on g367 | a port of its own | listeners.one.port is the same
listeners.four.auth: nothing | "none" \
| it would be open on 0.0.0.0: say auth = "none" if the networks in allow may call it unauthenticated
database.url: nothing | a secret, as in env:NAME or file:PATH | listeners.five keeps tables
auth.key: nothing | a secret, as in env:NAME or file:PATH, or jwks_url | listeners.five knows its callers by tokens
listeners.two.pool: "cc" | a pool: a, b, c, d or e | did you mean c?
pools.b.tiers.1: "zz" | a pool: a, b, c, d or e |
pools.c.endpoints.0: "g376:80" | host:port or node:port | unknown node g376; did you mean g374?
pools.c.endpoints.2: "10.15.38.1:8090" | each of its endpoints once | pools.c.endpoints.1 is the same
pools.c.endpoints.4: "x" | host:port or node:port \
| an endpoint is a host or node and a port, as in g367:8100, 10.0.0.1:80 or [::1]:80
pools.c.endpoints.5: "1.2.3.4:99999" | host:port or node:port | a port is a number from 1 to 65535
pools.c.endpoints.6: "300.1.1.1:80" | host:port or node:port | '300.1.1.1' does not appear to be an IPv4 or IPv6 address
pools.e: endpoints and tiers | one of endpoints, dns and tiers |
pools.e.tiers.1: "c" | each of its tiers once | pools.e.tiers.0 is the same
pools.a.tiers: a → b → a | tiers that end in pools with endpoints | a pool contains itself
pools.c.endpoints.1: "g367:8090" | an address that is not the edge's own \
| listeners.one listens there, so requests would come back to the edge
pools.c.endpoints.3: "127.0.0.1:8090" | an address that is not the edge's own \
| listeners.one listens there, so requests would come back to the edge
listeners.three.handler: "executive" | an installed handler \
| no installed distribution offers a handler named 'executive'; did you mean 'executives'?
"""


TWO_GATEWAYS = """
[database]
url = "env:DATABASE"

[auth]
key = "env:KEY"

[listeners.one]
kind = "gateway"
port = 8300

[listeners.two]
kind = "gateway"
port = 8301
"""


def test_two_gateways_share_one_limit(judge: Judge) -> None:
    """Each with a memory of its own would grant a hundred."""
    secrets = {"DATABASE": "postgresql://localhost/x", "KEY": "x" * 32}
    faults = judge(TWO_GATEWAYS, environ=secrets)
    told = "gateway.redis: nothing | a secret, as in env:NAME or file:PATH | "
    assert [_line(fault) for fault in faults.values()] == [f"{told}listeners.two shares one limit with listeners.one"]


def test_processes_of_the_gateway_share_one_limit(judge: Judge, load: Load) -> None:
    """In Redis, as two gateways do; with --local there is one, since there is no Redis."""
    one = TWO_GATEWAYS.partition("[listeners.two]")[0]
    secrets = {"DATABASE": "postgresql://localhost/x", "KEY": "x" * 32}
    faults = judge(one + "[gateway]\nprocesses = 2\n", environ=secrets)
    told = "gateway.redis: nothing | a secret, as in env:NAME or file:PATH | "
    assert [_line(fault) for fault in faults.values()] == [f"{told}the 2 gateway.processes share one limit"]
    assert load(one + "[gateway]\nprocesses = 2\n", local=True).gateway.processes == 1


def _line(fault: Fault) -> str:
    return f"{fault.path}: {fault.found} | {fault.expected} | {fault.hint}".rstrip()


def test_a_file_with_every_fault_tells_all_of_them(judge: Judge) -> None:
    """One fault never hides another."""
    assert sorted(map(_line, judge(EVERYTHING).values())) == sorted(GOLDEN.splitlines())


def test_a_sound_file_has_no_faults(load: Load) -> None:
    """What is left out has its default."""
    config = load(MINIMAL)
    assert config.edge.drain_s == 30.0
    assert config.listeners["door"].port == 8090


def test_an_empty_file_is_sound(load: Load) -> None:
    """There is nothing wrong with it; a plan will say that it opens nothing."""
    assert load("").listeners == {}


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a = = 3", "line 1, column 5"),
        ("[a]\nb = 1\nb = 2", "line 3"),
        ("[a", "line 1"),
    ],
)
def test_a_mistake_in_the_syntax_names_its_line(judge: Judge, text: str, hint: str) -> None:
    """The file's own name is the path."""
    (fault,) = judge(text).values()
    assert fault.path.endswith("config.toml")
    assert (fault.found, fault.expected) == ("a mistake in the syntax", "TOML")
    assert hint in fault.hint or "end of document" in fault.hint


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    """Missing, or no text."""
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for path, expected in ((tmp_path / "none.toml", "a configuration"), (binary, "UTF-8")):
        with pytest.raises(ConfigurationError) as raised:
            load_config(path, secrets=SecretSource({}))
        assert raised.value.faults[0].expected == expected


def test_the_message_tells_the_file_and_every_fault(judge: Judge, load: Load) -> None:
    """It is all that an operator sees."""
    text = MINIMAL + "[edge]\ndrian_s = 1\nbacklog = 0\n"
    with pytest.raises(ConfigurationError) as raised:
        load(text)
    message = str(raised.value)
    assert "config.toml has 2 faults\n" in message
    assert (
        "edge.drian_s\n"
        "  found     an unknown key\n"
        "  expected  backlog, bind, connections, connections_per_address, debug, drain_s, trusted, unready_s or "
        "workers\n"
        "  hint      did you mean drain_s?" in message
    )
    assert set(judge(text)) == {"edge.drian_s", "edge.backlog"}


def test_a_listener_on_loopback_needs_no_word_about_authentication(judge: Judge, load: Load) -> None:
    """Whether it is bound there by the file or by `--local`."""
    silent = MINIMAL.replace('auth = "none"', "")
    assert set(judge(silent)) == {"listeners.door.auth"}
    assert load(silent, local=True)
    assert load(silent + '[edge]\nbind = "127.0.0.1"\n')
    assert load(silent + '[edge]\nbind = "::1"\n')


def test_nodes_of_one_address_are_one_machine(judge: Judge) -> None:
    """Two names do not make two machines."""
    text = TWO_NODES.replace("10.0.0.2", "10.0.0.1").replace("port = 8201", "port = 8200")
    assert judge(text)["listeners.silent.port"].hint == "listeners.door.port is the same"


def test_a_planned_listener_takes_no_port_and_needs_no_handler(load: Load) -> None:
    """It is only on the map."""
    planned = '[listeners.later]\nkind = "handler"\nport = 8090\nhandler = "nobody"\nplanned = true\n'
    assert load(MINIMAL + planned).handlers == {}


def test_a_listener_of_another_node_on_loopback_is_no_loop(load: Load) -> None:
    """Loopback is each machine's own."""
    text = TWO_NODES.replace('"localhost:7001"', '"localhost:8201"')
    assert load(text)


@pytest.mark.parametrize("bind", ["0.0.0.0", "127.0.0.1", "10.0.0.7"])
def test_an_endpoint_at_the_address_that_listeners_are_bound_to_is_a_loop(judge: Judge, bind: str) -> None:
    """Without nodes there is one machine."""
    host = "localhost" if bind == "0.0.0.0" else bind
    faults = judge(MINIMAL.replace("10.0.0.9:80", f"{host}:8090") + f'[edge]\nbind = "{bind}"\n')
    assert "listeners.door listens there" in faults["pools.speech.endpoints.0"].hint


def test_a_secret_that_is_missing_names_its_setting_and_variable(judge: Judge) -> None:
    """The reference is no secret."""
    fault = judge(MINIMAL + '[database]\nurl = "env:EDGE_DB"\n')["database.url"]
    assert (fault.found, fault.expected) == ('"env:EDGE_DB"', "a secret that can be read")
    assert fault.hint == "the environment variable EDGE_DB is not set"


@pytest.mark.parametrize("line", ['url = "postgresql://u:hunter2@h/d"', 'ulr = "hunter2"', 'url = ["hunter2"]'])
def test_a_secret_that_is_written_in_the_file_is_never_shown(judge: Judge, line: str) -> None:
    """Neither as a value of its key, nor of a misspelt one."""
    faults = judge(MINIMAL + f"[database]\n{line}\n")
    assert faults
    assert "hunter2" not in "".join(map(str, faults.values()))


def test_a_secret_is_read_from_where_the_file_says(load: Load) -> None:
    """The environment's value, and stars where it is printed."""
    config = load(MINIMAL + '[database]\nurl = "env:EDGE_DB"\n', {"EDGE_DB": "postgresql://db"})
    assert config.database.url is not None
    assert config.database.url.get_secret_value() == "postgresql://db"
    assert "postgresql://db" not in repr(config)


def test_local_passes_the_database_over(load: Load) -> None:
    """It brings its own."""
    assert load(MINIMAL + '[database]\nurl = "env:EDGE_DB"\n', local=True).database.url is None


def test_local_passes_redis_over(load: Load) -> None:
    """It keeps grants in its own process."""
    assert load(MINIMAL + '[gateway]\nredis = "env:EDGE_REDIS"\n', local=True).gateway.redis is None


@pytest.mark.usefixtures("echo_handler")
class TestHandlers:
    """A handler's settings are judged by its class, beside everything else."""

    def test_faults_have_the_paths_of_the_file(self, judge: Judge) -> None:
        """Also those of nested tables, and of secrets in them."""
        settings = '[listeners.echo.settings]\nurl = "nowhere"\nkye = "hunter2"\nkey = "hunter2"\n'
        voice = '[listeners.echo.settings.voice]\nsped = 1.0\ntoken = "hunter2"\n'
        faults = judge(ECHO + settings + voice)
        assert set(faults) == {
            "database.url",
            "listeners.echo.settings.url",
            "listeners.echo.settings.kye",
            "listeners.echo.settings.key",
            "listeners.echo.settings.voice.sped",
            "listeners.echo.settings.voice.speed",
            "listeners.echo.settings.voice.token",
        }
        assert faults["listeners.echo.settings.voice.sped"].hint == "did you mean speed?"
        assert faults["database.url"].hint == "listeners.echo keeps tables"
        assert "hunter2" not in "".join(map(str, faults.values()))

    def test_a_url_is_shown_without_its_password(self, judge: Judge) -> None:
        """It may be a setting that its author did not call secret."""
        faults = judge(ECHO + '[listeners.echo.settings]\nurl = "://me:hunter2@host"\n')
        assert faults["listeners.echo.settings.url"].found == '"://***@host"'

    def test_sound_settings_make_a_handler(self, load: Load) -> None:
        """It holds its secret."""
        settings = '[listeners.echo.settings]\nurl = "http://chat:1"\nkey = "env:KEY"\n[database]\nurl = "env:DB"\n'
        handler = load(ECHO + settings, {"KEY": "k1", "DB": "postgresql://db"}).handlers["echo"]
        assert type(handler).__name__ == "Echo"
        assert "k1" not in repr(handler)

    def test_local_makes_missing_secrets_once(self, load: Load, tmp_path: Path) -> None:
        """They are kept for their owner alone."""
        text = ECHO + '[listeners.echo.settings]\nurl = "http://chat:1"\nkey = "env:KEY"\n'
        made_in = tmp_path / "secrets"
        first = load(text, local=True, made_in=made_in).handlers["echo"]
        assert load(text, local=True, made_in=made_in).handlers["echo"] == first
        assert (made_in / "KEY").stat().st_mode & 0o777 == 0o600

    def test_local_seals_credentials_with_keys_of_its_own(self, load: Load, tmp_path: Path) -> None:
        """Whatever the file names; a gateway that is no table is a fault as ever."""
        for named in ("", '[gateway]\ncredential_keys = "file:/nowhere"\n'):
            settings = load(named, local=True).gateway
            assert settings.credential_keys is not None
            made = (tmp_path / "secrets" / "SOVREN_EDGE_CREDENTIAL_KEYS").read_text(encoding="utf-8")
            assert settings.credential_keys.get_secret_value() == made
        assert load_config(tmp_path / "config.toml", secrets=None).gateway.credential_keys is None
        assert load_gateway(tmp_path / "config.toml", local=False).credential_keys is None
        with pytest.raises(ConfigurationError, match="gateway"):
            load("gateway = 5", local=True)

    def test_a_map_is_read_without_secrets_and_handlers(self, load: Load, tmp_path: Path) -> None:
        """Whoever looks at ports may have neither."""
        with pytest.raises(ConfigurationError):
            load(ECHO + '[database]\nurl = "env:NONE"\n')
        assert load_config(tmp_path / "config.toml", secrets=None).handlers == {}


def test_words_are_joined_for_a_reader() -> None:
    """One, several, none."""
    assert [one_of([]), one_of(["a"]), one_of(["b", "a", "c"])] == ["nothing", "a", "a, b or c"]


def test_only_similar_words_are_hinted_at() -> None:
    """A wild guess helps nobody."""
    assert nearest("prot", ["port", "pool"]) == "did you mean port?"
    assert nearest("zebra", ["port", "pool"]) == ""
