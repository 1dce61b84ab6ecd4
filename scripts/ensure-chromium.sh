#!/usr/bin/env bash
# Makes sure that a Chromium is there for the browser tests: installs it as root, else names it.
set -euo pipefail

for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then
        exit 0
    fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing chromium for the browser tests"
    install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; }
    if { install || { apt-get update -qq && install; }; } >/dev/null 2>&1; then
        exit 0
    fi
fi
echo "the browser tests need Chromium: install the package chromium, then try again" >&2
exit 2
