"""Keys, signatures, and what a trusted key refuses."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from bare_bundle import document_of, rewrite, tiny_bundle
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from samesight.bundle import open_bundle
from samesight.bundle.signing import new_key, read_public_key, sign_bundle
from samesight.cli import main
from samesight.errors import BundleChanged, BundleError, BundleInvalid, InputError, SignatureError

pytestmark = pytest.mark.row("V3")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a signed tiny bundle, its key, and a key of somebody else."""
    folder = tmp_path_factory.mktemp("signing")
    tiny_bundle(folder / "bundle")
    new_key(folder / "key")
    new_key(folder / "stranger")
    sign_bundle(folder / "bundle", folder / "key")
    return folder


@pytest.fixture
def signed(home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(home / "bundle", tmp_path / "bundle"))


def test_a_signed_bundle_opens_with_and_without_its_key(home: Path, signed: Path) -> None:
    assert open_bundle(signed, trust=home / "key.pub").id == open_bundle(signed).id


def test_the_signature_is_plain_ed25519_as_specified(home: Path, signed: Path) -> None:
    """What another language needs to know: 32 bytes, 64 bytes, and the prefix."""
    kind, encoded = (home / "key.pub").read_text().split()
    assert kind == "samesight-ed25519-public"
    fields = json.loads((signed / "bundle.sig").read_text())
    assert fields["algorithm"] == "ed25519"
    assert fields["public_key"] == encoded
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded))
    message = b"samesight-bundle-signature-v1\n" + (signed / "bundle.json").read_bytes()
    public.verify(base64.b64decode(fields["signature"]), message)


def test_unsigned_wrong_key_and_tampered_have_a_sentence_each(home: Path, signed: Path) -> None:
    sentences = []
    signature = signed / "bundle.sig"
    with pytest.raises(SignatureError, match="another key") as caught:
        open_bundle(signed, trust=home / "stranger.pub")
    sentences.append(caught.value.what)
    document = document_of(signed)
    document["labels"].reverse()
    rewrite(signed, document)
    assert open_bundle(signed).labels[0] == "Eule"  # hashes alone do not tell an attacker
    with pytest.raises(SignatureError, match="changed after signing") as caught:
        open_bundle(signed, trust=home / "key.pub")
    sentences.append(caught.value.what)
    signature.unlink()
    with pytest.raises(SignatureError, match="not signed") as caught:
        open_bundle(signed, trust=home / "key.pub")
    sentences.append(caught.value.what)
    assert len(set(sentences)) == 3


def test_an_attacker_who_signs_himself_is_refused(home: Path, signed: Path) -> None:
    sign_bundle(signed, home / "stranger")
    with pytest.raises(SignatureError, match="another key"):
        open_bundle(signed, trust=home / "key.pub")
    fields = json.loads((signed / "bundle.sig").read_text())
    fields["public_key"] = (home / "key.pub").read_text().split()[1]
    (signed / "bundle.sig").write_text(json.dumps(fields))
    with pytest.raises(SignatureError, match="changed after signing"):
        open_bundle(signed, trust=home / "key.pub")


def test_a_signature_does_not_excuse_a_changed_file(home: Path, signed: Path) -> None:
    (signed / "model.onnx").write_bytes(bytes((signed / "model.onnx").stat().st_size))
    with pytest.raises(BundleChanged):
        open_bundle(signed, trust=home / "key.pub")


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_flipped_byte_of_the_signature_is_refused(home: Path, data: st.DataObject) -> None:
    path = home / "bundle" / "bundle.sig"
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :]
    try:
        path.write_bytes(changed)
        try:
            open_bundle(home / "bundle", trust=home / "key.pub")
        except (SignatureError, BundleInvalid):
            return
        assert json.loads(changed) == json.loads(content)  # only white space, or an escape of it, was changed
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff", b'{"algorithm": "rsa"}', b"x" * 5000, b'{"a": 1, "a": 1}'],
    ids=lambda content: ascii(content[:20]),
)
def test_what_is_no_signature_is_refused(home: Path, signed: Path, content: bytes) -> None:
    (signed / "bundle.sig").write_bytes(content)
    open_bundle(signed)
    with pytest.raises(BundleInvalid):
        open_bundle(signed, trust=home / "key.pub")


def test_signing_again_replaces_the_signature(home: Path, signed: Path) -> None:
    sign_bundle(signed, home / "stranger")
    open_bundle(signed, trust=home / "stranger.pub")
    sign_bundle(signed, home / "key")
    open_bundle(signed, trust=home / "key.pub")


def test_a_changed_bundle_is_not_signed(home: Path, signed: Path) -> None:
    (signed / "labels_mapping.json").write_text("{}")
    with pytest.raises(BundleError):
        sign_bundle(signed, home / "key")


def test_keys_are_private_and_never_overwritten(tmp_path: Path) -> None:
    private, public = new_key(tmp_path / "keys" / "mine")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes(), public.read_bytes()
    for name in ("mine", "mine.pub"):
        (tmp_path / "keys" / name).unlink()
        with pytest.raises(InputError, match="never overwritten"):
            new_key(tmp_path / "keys" / "mine")
        (tmp_path / "keys" / name).write_bytes(before[name == "mine.pub"])
    assert (private.read_bytes(), public.read_bytes()) == before
    assert len(read_public_key(public)) == 32


def test_the_wrong_kind_of_key_is_said_without_showing_it(home: Path, signed: Path, tmp_path: Path) -> None:
    secret = (home / "key").read_text().split()[1]
    for trust, found in ((home / "key", "a private key"), (signed / "bundle.json", "something else")):
        with pytest.raises(InputError, match="kind of key") as caught:
            open_bundle(signed, trust=trust)
        assert caught.value.found == found
        assert secret not in str(caught.value)
    with pytest.raises(InputError, match="kind of key"):
        sign_bundle(signed, home / "key.pub")
    with pytest.raises(InputError, match="cannot read"):
        open_bundle(signed, trust=tmp_path / "no.pub")


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, key = tiny_bundle(tmp_path / "bundle"), tmp_path / "key"
    assert main(["sign", "--new-key", str(key)]) == 0
    assert "--key" in capsys.readouterr().err  # the next command
    assert main(["sign", "--new-key", str(key)]) == 2
    assert main(["show", str(bundle), "--trust", f"{key}.pub"]) == 2
    capsys.readouterr()
    assert main(["sign", str(bundle), "--key", str(key), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bundle"] == open_bundle(bundle).id
    assert main(["show", str(bundle), "--trust", f"{key}.pub", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["signature"] == {"state": "trusted", "public_key": told["public_key"]}
    for words in ([], [str(bundle)], ["--key", str(key)], [str(bundle), "--key", str(key), "--new-key", "x"]):
        assert main(["sign", *words]) == 2


def test_without_cryptography_the_extra_is_named(home: Path) -> None:
    program = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from samesight.cli import main\n"
        f"sys.exit(main(['show', {str(home / 'bundle')!r}, '--trust', {str(home / 'key.pub')!r}]))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert 'pip install "samesight[sign]"' in ran.stderr
    assert "Traceback" not in ran.stderr
