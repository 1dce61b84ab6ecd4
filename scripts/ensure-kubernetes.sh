#!/usr/bin/env bash
# Makes sure that the tests can start a Kubernetes: `api` is etcd, kube-apiserver, kubectl and Helm;
# `cluster` is all of a node besides, and images to build on. Programs are built from pinned Go
# modules, once, into a cache outside the repository: a folder for each part, keyed by what it is
# built from. Prints the name and the folder of each part, a line each. FASED_TEST_KUBECONFIG names
# an apiserver to use instead; then `api` is kubectl, as found, and Helm.
set -euo pipefail
cd "$(dirname "$0")/.."

modules=$PWD/tests/support/kubernetes/modules
config=$PWD/tests/support/kubernetes/config
cache=${XDG_CACHE_HOME:-$HOME/.cache}/fased-testbed
go_version=1.26.0
PATH=$PATH:/usr/sbin:/sbin

say() { echo "$*" >&2; }

fail() {
    say "$*"
    exit 2
}

install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; }

# Installs Debian packages as root; without root, or in vain, the caller says what is missing.
try_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 0
    say "installing $* for the tests' Kubernetes"
    (
        # The packages would start servers of their own; the tests start theirs.
        if [ ! -e /usr/sbin/policy-rc.d ]; then
            trap 'rm -f /usr/sbin/policy-rc.d' EXIT
            printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
            chmod 755 /usr/sbin/policy-rc.d
        fi
        install "$@" || { apt-get update -qq && install "$@"; }
    ) >/dev/null 2>&1 || true
}

# need PROGRAM PACKAGE …: each program is there, by its Debian package where it was not.
need() {
    missing "$@"
    [ -n "$packages" ] || return 0
    # shellcheck disable=SC2086 (words of a list)
    try_install $packages
    missing "$@"
    [ -z "$packages" ] || fail "the tests' Kubernetes needs$packages: install them, then try again"
}

missing() {
    packages=
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null || packages+=" $2"
        shift 2
    done
}

# part NAME BUILD INPUT…: BUILD fills the part's folder, once for these inputs. Prints the part.
part() {
    local name=$1 build=$2
    folder_of "$name" "${@:3}"
    [ -e "$folder" ] || fill "$name" "$build"
    echo "$name $folder"
}

# One run at a time: another that needs the part waits for it.
fill() {
    exec 9>"$cache/$1.lock"
    flock 9
    [ ! -e "$folder" ] || return 0
    say "building $1 for the tests' Kubernetes into $folder"
    made=$folder.new log=$cache/$1.log
    rm -rf "$made"
    mkdir "$made"
    trap 'tail -n 20 "$log" >&2; rm -rf "$made"' EXIT
    "$2" "$made" >"$log" 2>&1
    trap - EXIT
    mv "$made" "$folder"
}

folder_of() { folder=$cache/$1-$(cat "${@:2}" | cksum | cut -d' ' -f1); }

# As part, of a Go module: without a Go where it is built already.
go_part() {
    folder_of "$1" "${@:3}"
    [ -e "$folder" ] || ensure_go
    part "$@"
}

# Go 1.21 and newer fetch the Go that a module asks for. Debian 12's is older: it fetches one as
# the module that it is, without the permission to run.
ensure_go() {
    need go golang-go update-ca-certificates ca-certificates
    export GOTOOLCHAIN=auto CGO_ENABLED=0 GOFLAGS=
    case $(go version) in
    *go1.[0-9].* | *go1.1[0-9]* | *go1.20*)
        part go fetch_go <(go env GOOS GOARCH; echo "$go_version") >/dev/null
        PATH=$folder/bin:$PATH
        ;;
    esac
}

fetch_go() {
    local module fetched
    module=golang.org/toolchain@v0.0.1-go$go_version.$(go env GOOS)-$(go env GOARCH)
    GOMODCACHE=$1/mod GOFLAGS=-modcacherw go mod download "$module"
    fetched=$1/mod/$module
    chmod -R u+x "$fetched/bin" "$fetched/pkg/tool"
    mv "$fetched"/* "$1"
    rm -rf "$1/mod"
}

# build FOLDER MODULE PACKAGE…: the programs of a module, into the folder.
build() {
    local flags="-s -w" version minor
    cd "$modules/$2"
    version=$(sed -n 's:^\tk8s.io/kubernetes v\([^ ]*\).*:\1:p' go.mod)
    if [ -n "$version" ]; then
        minor=${version#1.}
        flags+=" -X k8s.io/component-base/version.gitVersion=v$version"
        flags+=" -X k8s.io/component-base/version.gitMajor=1"
        flags+=" -X k8s.io/component-base/version.gitMinor=${minor%%.*}"
    fi
    nice go build -trimpath -buildvcs=false -ldflags "$flags" -o "$1/" "${@:3}"
    cd "$OLDPWD"
}

build_kubernetes() {
    build "$1" kubernetes k8s.io/kubernetes/cmd/{kube-apiserver,kubectl}
}

build_node() {
    build "$1" kubernetes \
        k8s.io/kubernetes/cmd/{kube-controller-manager,kube-scheduler,kube-proxy,kubelet}
}

build_helm() { build "$1" helm helm.sh/helm/v4/cmd/helm; }

build_coredns() { build "$1" coredns .; }

build_pause() {
    build "$1" pause .
    container=$(image_store "$1" from scratch)
    image_store "$1" copy "$container" "$1/pause" /pause
    image_store "$1" config --entrypoint '["/pause"]' --user 65535:65535 "$container"
    image_store "$1" commit "$container" "docker-archive:$1/pause.tar:localhost/pause:1"
    rm -rf "$1/images"
}

# Stands in for a slim image of Python, with Debian's: `python`, and a pip that installs.
build_base() {
    local container root mirror
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || { apt-get update -qq; mirror=$(debian_mirror); }
    [ -n "$mirror" ] || { echo "the base image needs a source of Debian 12 in apt"; exit 2; }
    container=$(image_store "$1" from scratch)
    root=$(image_store "$1" mount "$container")
    nice debootstrap --variant=minbase \
        --include=ca-certificates,python-is-python3,python3-pip,python3-venv,tzdata \
        bookworm "$root" "$mirror"
    rm -rf "$root"/usr/lib/python3*/EXTERNALLY-MANAGED "$root"/var/{cache/apt,lib/apt/lists}/*
    image_store "$1" config --env LANG=C.UTF-8 --cmd python3 "$container"
    image_store "$1" commit --rm "$container" localhost/debian-python:12
}

debian_mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' |
        sed -n 1p
}

# image_store FOLDER COMMAND …: buildah on the images of a part.
image_store() {
    local verb=$2 policy=()
    [ "$verb" != commit ] || policy=(--signature-policy "$config/image-policy.json")
    buildah --root "$1/images" --runroot "$1/run" --storage-driver overlay \
        "$verb" "${policy[@]}" "${@:3}"
}

ensure_api() {
    if [ -z "${FASED_TEST_KUBECONFIG:-}" ]; then
        need etcd etcd-server openssl openssl
        go_part kubernetes build_kubernetes "$modules"/kubernetes/*
    else
        command -v kubectl >/dev/null || fail "FASED_TEST_KUBECONFIG needs a kubectl on PATH"
    fi
    go_part helm build_helm "$modules"/helm/*
}

ensure_cluster() {
    need containerd containerd runc runc /usr/lib/cni/bridge containernetworking-plugins \
        buildah buildah debootstrap debootstrap iptables iptables conntrack conntrack ip iproute2 \
        modprobe kmod nft nftables
    go_part node build_node "$modules"/kubernetes/*
    go_part coredns build_coredns "$modules"/coredns/*
    go_part pause build_pause "$modules"/pause/*
    part base build_base <(declare -f build_base)
}

[ "$(uname)" = Linux ] || fail "the tests' Kubernetes needs Linux"
mkdir -p "$cache"
case ${1:-api} in
api)
    ensure_api
    ;;
cluster)
    [ "$(id -u)" = 0 ] || fail "a cluster of the tests needs root: it makes links and mounts"
    # What debootstrap and buildah mount goes with this process, whatever ends it.
    [ -n "${OWN_MOUNTS:-}" ] || OWN_MOUNTS=1 exec unshare --mount "$0" "$@"
    unset FASED_TEST_KUBECONFIG
    ensure_api
    ensure_cluster
    ;;
*)
    fail "usage: $0 [api|cluster]"
    ;;
esac
