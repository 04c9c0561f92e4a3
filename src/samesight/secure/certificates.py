"""An authority and a certificate for each party, for those who have no authority of their own.

A party's role is its certificate's common name. Needs the package cryptography.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from samesight.errors import MissingExtra
from samesight.files import new_folder
from samesight.secure.protocols import ROLES

__all__ = ["make_certificates"]

DAYS = 365


def make_certificates(folder: Path) -> list[Path]:
    """Write ca.pem, ca.key and for each role ROLE.pem and ROLE.key; the paths.

    Raises InputError where the folder is there already, MissingExtra without cryptography.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError as error:
        raise MissingExtra("making certificates", "secure") from error

    now = datetime.now(UTC) - timedelta(minutes=5)  # clocks differ a little

    def name(words: str) -> Any:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, words)])

    def certificate(subject: str, key: Any, authority: Any, *, ca: bool) -> Any:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("samesight authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=DAYS))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False
            )
        )
        if not ca:
            both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        return builder.sign(authority, hashes.SHA256())

    authority = ec.generate_private_key(ec.SECP256R1())
    made = {"ca": (authority, certificate("samesight authority", authority, authority, ca=True))}
    for role in ROLES:
        key = ec.generate_private_key(ec.SECP256R1())
        made[role] = (key, certificate(role, key, authority, ca=False))
    paths = []
    with new_folder(folder) as aside:
        for role, (key, signed) in made.items():
            (aside / f"{role}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
            handle = os.open(aside / f"{role}.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as stream:
                stream.write(
                    key.private_bytes(
                        serialization.Encoding.PEM,
                        serialization.PrivateFormat.PKCS8,
                        serialization.NoEncryption(),
                    )
                )
            paths += [folder / f"{role}.pem", folder / f"{role}.key"]
    return paths
