"""Owns what the gateway is made of, and its life: composed here and nowhere else.

Must not know ports, nor how its configuration was read.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from sovren_edge.errors import EdgeError, StartupError
from sovren_edge.gateway.bodies import MOST_BYTES, Bodies
from sovren_edge.gateway.clocks import boot_clock, boot_us
from sovren_edge.gateway.counts import Counts
from sovren_edge.gateway.egress import open_egress
from sovren_edge.gateway.grants import LocalGrants
from sovren_edge.gateway.journal import Journal, JournalError, open_journal
from sovren_edge.gateway.ledger import open_ledger
from sovren_edge.gateway.limiter import Limiter
from sovren_edge.gateway.proxy import Proxy
from sovren_edge.gateway.recording import Recording
from sovren_edge.gateway.refusals import REFUSED_MOST
from sovren_edge.gateway.resolver import Resolver
from sovren_edge.gateway.sending import Sending
from sovren_edge.gateway.settings import GatewaySettings, RehearsalSettings
from sovren_edge.gateway.subscribers import Subscribers
from sovren_edge.handler import Edge, Handler, Routes, route

HOUR_US = 3_600_000_000
TICK_S, FLUSH_S, RETRY_S = 1.0, 10.0, 5.0
MOVED = "{} are served on port 8250 now; this is the gateway to external APIs."
