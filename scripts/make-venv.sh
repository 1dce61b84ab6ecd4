#!/usr/bin/env bash
# Makes a virtual environment in $1, if none works there, with the first Python that is new enough.
set -euo pipefail
venv=$1
if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi

fail() {
    echo "$1" >&2
    exit 2
}

# Prints the first Python >= 3.11 that also passes the statement $1. A name may be there and not run.
find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11; do
        if "$name" -c "import sys; assert sys.version_info >= (3, 11); $1" 2>/dev/null; then
            echo "$name"
            return
        fi
    done
}

[ -n "$(find_python pass)" ] || fail "Fased needs Python 3.11 or newer: install it, then try again"
# Debian keeps what `python -m venv` needs in a package of its own.
python=$(find_python "import ensurepip")
if [ -z "$python" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get install -y -qq python3-venv || { apt-get update -qq && apt-get install -y -qq python3-venv; }; } \
        >/dev/null 2>&1 || true
    python=$(find_python "import ensurepip")
fi
[ -n "$python" ] || fail "this Python cannot make virtual environments: install the package python3-venv"
"$python" -m venv --clear "$venv"
