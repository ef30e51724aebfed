"""Owns certificates: the contexts by which listeners and connections to endpoints speak TLS, kept up to date.

Must not know what is served. TLS 1.2 and later; a certificate that cannot be verified is never accepted.
"""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from pydantic import BaseModel, ConfigDict

DAY_S = 86_400


class TlsSettings(BaseModel):
    """A listener's certificate, with those that sign it, and its key: paths of PEM files."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    certificate: str
    key: str


class CertificateError(Exception):
    """A certificate and key that cannot serve; its message says why."""


@dataclass(frozen=True, slots=True)
class _Pair:
    context: ssl.SSLContext
    expires: datetime


class Certificate:
    """One listener's certificate; raises CertificateError if its files cannot serve."""

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._seen = self._loaded = self._look()
        self._pair = _load(settings)
        self.failures = 0
        # What listens keeps this context for good; later ones are chosen at each handshake.
        self.context = self._pair.context

    def days_left(self, now: datetime) -> float:
        """Return the days until it expires."""
        return (self._pair.expires - now).total_seconds() / DAY_S

    def refresh(self) -> bool:
        """Load the files if they have changed and come to rest; return whether they serve now.

        Raises CertificateError, once for each change, if they cannot serve: then the old ones still do.
        """
        stamps = self._look()
        settled, self._seen = stamps == self._seen, stamps
        # Two files are not replaced at once: what is still moving is looked at later.
        return settled and stamps != self._loaded and self.reload()

    def reload(self) -> bool:
        """Load the files as they are; see `refresh`."""
        self._loaded = self._seen = self._look()
        try:
            self._pair = _load(self._settings)
        except CertificateError:
            self.failures += 1
            raise
        self.context.sni_callback = self._choose
        return True

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._pair.context

    def _look(self) -> tuple[object, ...]:
        """Return what tells one state of the files from another."""
        return tuple(map(_stamp, (self._settings.certificate, self._settings.key)))


def _stamp(path: str) -> object:
    try:
        found = Path(path).stat()
    except OSError as error:
        return error.errno
    return found.st_ino, found.st_size, found.st_mtime_ns


def _load(settings: TlsSettings) -> _Pair:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    for name, path in (("certificate", settings.certificate), ("key", settings.key)):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise CertificateError(f"the {name} {path} cannot be read: {error.strerror}") from None
    try:
        context.load_cert_chain(settings.certificate, settings.key, password="")
        expires = x509.load_pem_x509_certificates(Path(settings.certificate).read_bytes())[0].not_valid_after_utc
    except ssl.SSLError as error:
        reason = error.reason or "they are no PEM files of a certificate and its key"
        raise CertificateError(f"{settings.certificate} and {settings.key} cannot serve: {reason}") from None
    except (OSError, ValueError) as error:
        raise CertificateError(f"{settings.certificate} cannot be read: {error}") from None
    if expires <= datetime.now(UTC):
        raise CertificateError(f"{settings.certificate} expired on {expires:%Y-%m-%d}")
    return _Pair(context, expires)


def client_context(ca: str | None) -> ssl.SSLContext:
    """Make the context for connections to endpoints, verified by the file `ca`, or by the system's authorities."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(f"the authorities in {ca} cannot be read: {error.strerror or error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
