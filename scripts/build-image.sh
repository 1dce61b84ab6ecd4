#!/usr/bin/env bash
# Builds the container image $1, on base image $2 if given, with the first builder that works.
set -euo pipefail
image=$1
base=${2:-}
args=(--file Containerfile --tag "$image" ${base:+--build-arg "BASE=$base"})

if docker info >/dev/null 2>&1; then
    exec docker build "${args[@]}" .
fi
# What pip needs to reach its index from here; it does not stay in the image.
for path in /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    [ ! -e "$path" ] || args+=(--volume "$path:$path:ro")
done
if podman info >/dev/null 2>&1; then
    exec podman build "${args[@]}" .
elif buildah info >/dev/null 2>&1; then
    # Without a container engine there may be no network for containers either.
    exec buildah build --isolation chroot --network host "${args[@]}" .
fi
echo "building the image needs docker, podman or buildah: install one, then try again" >&2
exit 2
