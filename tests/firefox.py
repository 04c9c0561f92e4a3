"""Debian's Firefox without a window, which runs a script of ours and sends back what it found.

Playwright drives its own build of Firefox only; here the page itself does the work, and nothing is between.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from samesight.web import server

NAMES = ("firefox-esr", "firefox")
PAGE = """<!doctype html><title>Firefox</title><link rel="icon" href="icon.svg">
<script type="module" src="work.js"></script>"""
# Nothing is looked up, updated or reported; and pages are as isolated from fingerprinting as by default.
PREFERENCES = {
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionEnabled": False,
    "datareporting.healthreport.uploadEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}
MOST_BYTES = 64 << 20


def find_firefox() -> str:
    """The path of a Firefox; the test is skipped where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("there is no Firefox (sh tests/setup_browser.sh firefox-esr installs Debian's)")
    return found


def run(folder: Path, work: str, asked: Any, timeout_s: float = 900) -> Any:
    """What the async JavaScript function `work` gives for `asked` in a page of the served `folder`."""
    firefox = find_firefox()
    (folder / "firefox.html").write_text(PAGE)
    (folder / "work.js").write_text(
        f"""const work = {work};
        const told = await work({json.dumps(asked)}).then(
            (value) => ({{ value }}), (error) => ({{ error: `${{error}} ${{error.stack}}` }}));
        await fetch("found", {{ method: "POST", body: JSON.stringify(told) }});"""
    )
    found: list[dict[str, Any]] = []
    there = threading.Event()

    class Handler(server._Handler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            assert size <= MOST_BYTES
            found.append(json.loads(self.rfile.read(size)))
            self.send_response(204)
            self.end_headers()
            there.set()

    handler = functools.partial(Handler, directory=str(folder), isolated=True)
    with ThreadingHTTPServer((server.HOST, 0), handler) as site, tempfile.TemporaryDirectory() as profile:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        lines = [f"user_pref({json.dumps(key)}, {json.dumps(value)});" for key, value in PREFERENCES.items()]
        (Path(profile) / "user.js").write_text("\n".join(lines))
        url = f"http://localhost:{site.server_port}/firefox.html"
        words = [firefox, "--headless", "--no-remote", "--profile", profile, url]
        environment = {**os.environ, "HOME": profile, "MOZ_CRASHREPORTER_DISABLE": "1"}
        with subprocess.Popen(
            words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                assert there.wait(timeout_s), "Firefox has not answered in time"
            finally:
                process.terminate()
                process.wait(timeout=30)
                site.shutdown()
    assert "error" not in found[0], found[0]["error"]
    return found[0]["value"]
