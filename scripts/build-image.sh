#!/usr/bin/env bash
# Builds the container image $1, on base image $2 if given, with the first builder that works.
set -euo pipefail
image=$1
base=${2:-}
args=(--file Containerfile --tag "$image" ${base:+--build-arg "BASE=$base"} .)

if podman info >/dev/null 2>&1; then
    exec podman build "${args[@]}"
elif docker info >/dev/null 2>&1; then
    exec docker build "${args[@]}"
elif command -v buildah >/dev/null; then
    exec buildah build "${args[@]}"
fi
echo "building the image needs podman, docker or buildah: install one, then try again" >&2
exit 2
