"""The static site of a bundle: the page, the runtime, and a bundle that may leave the house.

SITE/index.html page.js page.css …   the page, as `make web` builds it from web/
SITE/runtime/                        @samesight/runtime: the engine, its worker, its WebAssembly
SITE/bundle/                         the bundle; without its golden photos where those may not be published
SITE/site.json                       the page's files with their SHA-256, for use without a network
SITE/_headers                        the HTTP headers that the page wants, as Netlify and Cloudflare read them
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samesight.bundle import Bundle, open_bundle
from samesight.errors import InputError
from samesight.files import json_text, new_folder, sha256_bytes, sha256_file
from samesight.web.policy import Recalibrate, header_file, headers, written_into
from samesight.web.publish import write_publishable

__all__ = ["Site", "assets", "copy_bundle", "write_site"]

_LATER = ("runtime/index.js", "runtime/react.js", "runtime/THIRD_PARTY.txt")  # for other pages than this one


@dataclass(frozen=True)
class Site:
    """A site that has been written: where, the id of its bundle, and whether that is the bundle as it was."""

    folder: Path
    id: str
    bundle: str
    original: bool
    samples: str  # "golden", "synthetic"
    size_bytes: int
    recalibrate: str | None  # the larger model's address

    def to_json(self) -> dict[str, Any]:
        """The object that `samesight web --json` prints."""
        return {**vars(self), "folder": str(self.folder)}


def assets() -> Path:
    """The folder of the built page. Raises InputError where it has not been built."""
    folder = Path(__file__).parent / "assets"
    if not (folder / "page.js").is_file():
        raise InputError(
            "the web page has not been built",
            where=folder,
            expected="page.js, which a wheel brings and `make web` builds with Node.js 20 and npm",
            fix="make web",
        )
    return folder


def write_site(
    bundle: Bundle, out: Path, *, replace: bool = False, recalibrate: Recalibrate | None = None
) -> Site:
    """Write the site of `bundle` to the folder `out`, whole or not at all.

    With `recalibrate`, the page may ask that server, and no other, where its visitor allows it.

    A bundle whose golden photos may be published goes as it is, byte for byte. Of any other a bundle is made
    that has no photo in it. Raises InputError where there is something at `out` (with `replace`, something
    that is no site), or the page has not been built.
    """
    page = assets()
    if replace and out.exists() and not (out / "site.json").is_file():
        raise InputError("what would be replaced is not a site", where=out, fix="another --out")
    original = bool(bundle.golden["publishable"]) and bundle.golden["samples"] > 0
    with new_folder(out, replace=replace) as folder:
        shutil.copytree(page, folder, dirs_exist_ok=True)
        published = folder / "bundle"
        if original:
            copy_bundle(bundle, published)
        else:
            write_publishable(bundle, published)
        if recalibrate is not None:
            index = folder / "index.html"
            index.write_text(written_into(index.read_text("utf-8"), recalibrate), "utf-8")
        (folder / "_headers").write_text(header_file(recalibrate))
        site_id = _write_list(folder, headers(recalibrate)["Content-Security-Policy"])
        script = folder / "service-worker.js"
        script.write_text(f'globalThis.samesightSite = "{site_id}";\n{script.read_text()}')
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        inside = open_bundle(published).id
    samples = "golden" if original else "synthetic"
    address = None if recalibrate is None else recalibrate.url
    return Site(out, site_id, inside, original, samples, size, address)


def copy_bundle(bundle: Bundle, folder: Path) -> None:
    """Fill the new `folder` with the bundle's files, each checked as it is copied, and its signature."""
    folder.mkdir()
    for file in bundle.files:
        place = folder / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(bundle.read(file.path))
    for name in ("bundle.json", "bundle.sha256", "bundle.sig"):
        if (bundle.folder / name).is_file():
            shutil.copyfile(bundle.folder / name, folder / name)


def _write_list(folder: Path, policy: str) -> str:
    """Write site.json; the site's id, which changes with any of its files.

    `policy` is what the service worker sends with each of them, also where the host does not.

    Listed is what the page itself needs. The bundle's other files are kept by the engine, by their hash.
    """
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "bundle" not in path.relative_to(folder).parts
    )
    names = [name for name in names if name not in (*_LATER, "_headers", "service-worker.js")]
    own = ("bundle/bundle.json", "bundle/bundle.sha256", "bundle/bundle.sig")
    names += [name for name in own if (folder / name).is_file()]
    files = [{"path": name, "sha256": sha256_file(folder / name)} for name in names]
    script = sha256_file(folder / "service-worker.js")
    site_id = sha256_bytes("".join([script, *(f"{one['path']} {one['sha256']}\n" for one in files)]).encode())
    record = {
        "format": "samesight-site",
        "format_version": 1,
        "id": site_id[:16],
        "policy": policy,
        "files": files,
    }
    (folder / "site.json").write_text(json_text(record), encoding="utf-8")
    return site_id[:16]
