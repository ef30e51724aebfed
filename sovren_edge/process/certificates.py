"""Owns the certificates of one worker: loading them at its start, and looking after them.

Must not know how TLS is spoken.
"""

import asyncio
import ssl
from collections.abc import Iterable, Mapping

from structlog.typing import FilteringBoundLogger

from sovren_edge.config.resolved import PlannedListener, ResolvedPool
from sovren_edge.errors import StartupError
from sovren_edge.tls import Certificate, CertificateError, client_context

LOOK_S = 2.0


def load_certificates(listeners: Iterable[PlannedListener]) -> dict[str, Certificate]:
    """Load every listener's certificate, by the listener's name; StartupError names all that cannot serve."""
    certificates: dict[str, Certificate] = {}
    faults: list[str] = []
    for listener in listeners:
        if listener.settings.tls is None:
            continue
        try:
            certificates[listener.name] = Certificate(listener.settings.tls)
        except CertificateError as error:
            faults.append(f"listeners.{listener.name}.tls: {error}")
    if faults:
        raise StartupError("\n".join(faults))
    return certificates


def upstream_context(pool: ResolvedPool) -> ssl.SSLContext:
    """Make the context for a pool's endpoints; StartupError if its authorities cannot be read."""
    try:
        return client_context(pool.settings.tls.ca if pool.settings.tls else None)
    except CertificateError as error:
        raise StartupError(f"pools.{pool.name}.tls: {error}") from None


async def watch_certificates(certificates: Mapping[str, Certificate], log: FilteringBoundLogger) -> None:
    """Look for newer files until cancelled."""
    while True:
        await asyncio.sleep(LOOK_S)
        for name, certificate in certificates.items():
            try:
                if certificate.refresh():
                    log.info("certificate_reloaded", listener=name)
            except CertificateError as error:
                tell = log.error  # the message says all; a traceback would say less
                tell("certificate_not_reloaded", listener=name, why=str(error))
