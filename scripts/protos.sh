#!/usr/bin/env bash
# Generates fased/api from proto/. `write` replaces what is committed, `check` says where it differs.
set -euo pipefail
mode=$1
bin=$2
"$bin/buf" lint

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# shellcheck disable=SC2046 - one word a file: the names hold no blanks
PATH="$bin:$PATH" "$bin/python" -m grpc_tools.protoc --proto_path=proto \
    --python_out="$out" --grpc_python_out="$out" \
    --mypy_out="quiet:$out" --mypy_grpc_out="quiet:$out" \
    $(find proto -name '*.proto' | sort)
find "$out/fased/api" -type d -exec touch {}/__init__.py \;

case $mode in
write)
    rm -rf fased/api
    cp -R "$out/fased/api" fased/api
    ;;
check)
    if ! diff -r --brief --exclude=__pycache__ "$out/fased/api" fased/api; then
        echo "fased/api differs from what proto/ says: run make proto" >&2
        exit 1
    fi
    ;;
esac
