#!/bin/sh
# A browser for the tests in a real one: sh tests/setup_browser.sh [chromium|firefox-esr]. The one that is there, else
# Debian's where this may install it. Without one those tests are skipped, and say so.
browser="${1:-chromium}"
case "$browser" in
    firefox-esr) names="firefox-esr firefox" ;;
    *) names="${SAMESIGHT_CHROMIUM:-chromium} chromium chromium-browser google-chrome" ;;
esac
for name in $names; do
    command -v "$name" >/dev/null 2>&1 && exit 0
done
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "no $browser found, and this user cannot install one: tests in it will be skipped" >&2
    exit 0
fi
echo "installing Debian's $browser for the tests in a browser" >&2
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -qq -y --no-install-recommends "$browser"; } >/dev/null 2>&1 ||
    echo "$browser could not be installed: tests in it will be skipped" >&2
