#!/bin/sh
# What tests/test_container.py needs to build and run the Dockerfile's image without Docker: sh tests/setup_container.sh
# Debian's buildah and runc, and a root file system with a `python` that stands for python:3.12-slim, whose registry
# may be out of reach. It takes this machine's certificates and pip settings with it. Needs root; 5 minutes, 250 MB.
set -eu
tar="${SAMESIGHT_TEST_IMAGE:-/var/cache/samesight/base.tar}"
export DEBIAN_FRONTEND=noninteractive
if ! { command -v buildah && command -v runc && command -v debootstrap; } >/dev/null; then
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends buildah runc debootstrap
fi
[ -f "$tar" ] && exit 0
mkdir -p "$(dirname "$tar")"
root="$(mktemp -d)"
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates trixie "$root"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
ln -s /usr/bin/python3 "$root/usr/local/bin/python"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
[ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/pip.conf"
tar -C "$root" -cf "$tar.new" .
mv "$tar.new" "$tar"
