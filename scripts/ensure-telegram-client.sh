#!/usr/bin/env bash
# Makes sure that the Telegram client of the tests is there, in an environment of its own (its
# requirements do not fit ours), and prints its Python.
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=tests/support/telegram_client/requirements.txt
key=$(cat "$requirements" - <<<"$(python3 --version)" | cksum | cut -d' ' -f1)
venv=${XDG_CACHE_HOME:-$HOME/.cache}/fased-testbed/telegram-client-$key

if [ ! -e "$venv/.installed" ]; then
    # Made beside its place and moved there, so that two who make it at once do no harm.
    made=$venv.$$
    trap 'rm -rf "$made"' EXIT
    scripts/make-venv.sh "$made" >&2
    "$made/bin/python" -m pip install --quiet --disable-pip-version-check \
        --requirement "$requirements" >&2
    touch "$made/.installed"
    python3 -c 'import os, sys; os.rename(*sys.argv[1:])' "$made" "$venv" 2>/dev/null \
        || [ -e "$venv/.installed" ]
fi
echo "$venv/bin/python"
