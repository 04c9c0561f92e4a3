#!/bin/sh
# A Chromium for the tests in a real browser: the one that is there, else Debian's where this may install it.
# Without one those tests are skipped, and say so.
for name in "${SAMESIGHT_CHROMIUM:-chromium}" chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null 2>&1 && exit 0
done
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "no Chromium found, and this user cannot install one: tests in a browser will be skipped" >&2
    exit 0
fi
echo "installing Debian's Chromium for the tests in a browser" >&2
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; } >/dev/null 2>&1 ||
    echo "Chromium could not be installed: tests in a browser will be skipped" >&2
