"""Ed25519 signatures of bundles: keys, bundle.sig, and its check.

Hashes tell accidents; only a signature by a key that is known tells attackers.

Signed are the bytes `PREFIX` + bundle.json, which names the SHA-256 of every other file. `spec/bundle.md` has
the forms of the files.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.bundle import open_bundle
from samesight.bundle.strictjson import choice, parse, table, text
from samesight.errors import BundleChanged, InputError, MissingExtra, SignatureError
from samesight.files import json_text, sha256_bytes, write_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["check_signature", "new_key", "read_public_key", "sign_bundle"]

PREFIX = b"samesight-bundle-signature-v1\n"
ALGORITHM = "ed25519"
PUBLIC, PRIVATE = "samesight-ed25519-public", "samesight-ed25519-private"
MAX_KEY_BYTES = 1024


def new_key(path: Path) -> tuple[Path, Path]:
    """Make a key: `path`, readable by its owner only, and beside it `path`.pub; both paths.

    Raises InputError where either is there already: a key is never overwritten.
    """
    ed25519 = _ed25519()
    public_path = path.with_name(f"{path.name}.pub")
    for one in (path, public_path):
        if os.path.lexists(one):
            raise InputError("a key is never overwritten", where=one, fix="another name")
    key = ed25519.Ed25519PrivateKey.generate()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(path, f"{PRIVATE} {_encode(key.private_bytes_raw())}\n", 0o600)
        _write_new(public_path, f"{PUBLIC} {_encode(key.public_key().public_bytes_raw())}\n", 0o644)
    except OSError as error:
        raise InputError("cannot write a key", where=path, found=error.strerror) from error
    return path, public_path


def sign_bundle(folder: Path, key: Path) -> tuple[str, str]:
    """Sign the bundle in `folder` with the private key in `key`: writes bundle.sig, an older one is replaced.

    The bundle is checked first. Returns the bundle's id, and the public key in base64.
    Raises InputError, BundleError.
    """
    private = _read_private_key(key)
    bundle = open_bundle(folder)
    data = (bundle.folder / "bundle.json").read_bytes()
    if sha256_bytes(data) != bundle.id:
        raise BundleChanged("the bundle changed while it was being signed", where=folder)
    public = _encode(private.public_key().public_bytes_raw())
    signature = {
        "algorithm": ALGORITHM,
        "public_key": public,
        "signature": _encode(private.sign(PREFIX + data)),
    }
    write_file(bundle.folder / "bundle.sig", json_text(signature))
    return bundle.id, public


def check_signature(document: bytes, signature: bytes, trust: Path) -> None:
    """Nothing, where `signature` (bundle.sig) is that of `document` (bundle.json) by the key in `trust`.

    Raises SignatureError where another key signed it or it does not fit, BundleInvalid where it is malformed,
    InputError where `trust` is no public key.
    """
    ed25519 = _ed25519()
    from cryptography.exceptions import InvalidSignature

    trusted = read_public_key(trust)
    signer, made = read_signature(signature)
    if signer != trusted:
        raise SignatureError(
            "the bundle is signed by another key than the trusted one",
            where="bundle.sig",
            expected=_encode(trusted),
            found=_encode(signer),
        )
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(trusted).verify(made, PREFIX + document)
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(
            "the signature does not fit: bundle.json or bundle.sig was changed after signing",
            where="bundle.sig",
            expected=f"a signature by {_encode(trusted)}",
            fix="fetch the bundle again from its author",
        ) from error


def read_signature(data: bytes) -> tuple[bytes, bytes]:
    """The public key (32 bytes) and the signature (64 bytes) in a bundle.sig. Raises BundleInvalid."""
    where = "bundle.sig"
    fields = table(parse(data, where), where, ("algorithm", "public_key", "signature"))
    choice(fields["algorithm"], "bundle.sig: algorithm", [ALGORITHM])
    key = text(fields["public_key"], "bundle.sig: public_key", 44, pattern="[A-Za-z0-9+/]{43}=")
    made = text(fields["signature"], "bundle.sig: signature", 88, pattern="[A-Za-z0-9+/]{86}==")
    return base64.b64decode(key), base64.b64decode(made)


def read_public_key(path: Path) -> bytes:
    """The 32 bytes of the public key in a KEY.pub file. Raises InputError."""
    return _read_key(path, PUBLIC, "a public key (KEY.pub)")


def _read_private_key(path: Path) -> Ed25519PrivateKey:
    seed = _read_key(path, PRIVATE, "a private key (KEY)")
    key: Ed25519PrivateKey = _ed25519().Ed25519PrivateKey.from_private_bytes(seed)
    return key


def _read_key(path: Path, kind: str, expected: str) -> bytes:
    """The 32 bytes of a key file, which is one line: the kind, a space, base64."""
    try:
        with path.open("rb") as stream:
            words = stream.read(MAX_KEY_BYTES).decode("ascii", "replace").split()
    except OSError as error:
        raise InputError("cannot read a key", where=path, found=error.strerror) from error
    try:
        found, encoded = words
        key = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        found, key = "something else", b""
    if found != kind or len(key) != 32:
        # never the contents: the file may be a private key
        other = {PUBLIC: "a public key", PRIVATE: "a private key"}.get(found, "something else")
        raise InputError(
            "a file is not the kind of key that is needed", where=path, expected=expected, found=other
        )
    return key


def _write_new(path: Path, line: str, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w") as stream:
        stream.write(line)
        stream.flush()
        os.fsync(handle)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _ed25519() -> Any:
    """The module of the `cryptography` package. Raises MissingExtra."""
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtra("signing bundles", "sign") from error
    return ed25519
