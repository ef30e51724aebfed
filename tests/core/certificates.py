"""Certificates for tests: an authority, and pairs that it signs."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from sovren_edge.tls import TlsSettings


@dataclass(frozen=True)
class Authority:
    """An authority whose certificates are written to a folder."""

    ca: trustme.CA
    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Authority":
        """Make one with a certificate for this machine."""
        authority = cls(trustme.CA(), folder)
        authority.ca.cert_pem.write_to_path(folder / "ca.pem")
        authority.issue()
        return authority

    @property
    def settings(self) -> TlsSettings:
        """What a listener's table says."""
        return TlsSettings(certificate=str(self.folder / "cert.pem"), key=str(self.folder / "key.pem"))

    def issue(self, *, days: float = 30, name: str = "localhost", parts: str = "both") -> bytes:
        """Write a new pair, or one part of it; return the certificate."""
        until = datetime.now(UTC) + timedelta(days=days)
        pair = self.ca.issue_cert(name, "127.0.0.1", not_after=until)
        if parts != "key":
            pair.cert_chain_pems[0].write_to_path(self.folder / "cert.pem")
        if parts != "certificate":
            pair.private_key_pem.write_to_path(self.folder / "key.pem")
        return ssl.PEM_cert_to_DER_cert(pair.cert_chain_pems[0].bytes().decode())

    def client(self) -> ssl.SSLContext:
        """Make the context of a caller that trusts this authority."""
        return ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
