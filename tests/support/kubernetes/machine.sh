#!/usr/bin/env bash
# A machine within this one: namespaces of mounts, network and processes, joined to this one by a
# link. It lives until its standard input closes, however its starter ended; then everything in it
# is killed, and what is left outside is removed: FOLDER, the link, cgroups. Decides nothing of what
# runs in it.
#
#   machine.sh FOLDER LINK HOST_ADDRESS NODE_ADDRESS ROUTE…
#
# writes to FOLDER/pid the process by which others enter. The machine knows no way but the link;
# ROUTE is a network that this machine reaches through it.
set -euo pipefail

folder=$1 link=$2 host_address=$3 node_address=$4
routes=("${@:5}")
cgroup=fased-testbed
# What the parts of a node write to whatever they are told.
private_folders=(/var/lib/cni /var/lib/kubelet /var/log/containers)
kubelet_settings=(kernel/keys/root_maxbytes kernel/keys/root_maxkeys kernel/panic
    kernel/panic_on_oops vm/overcommit_memory vm/panic_on_oom)

outside() {
    local made=() each
    modprobe --quiet --all br_netfilter overlay nf_conntrack || true # or they are built in
    for each in "${private_folders[@]}"; do
        [ -d "$each" ] || made+=("$each")
    done
    exec 8</proc/self/ns/net
    WITHIN=1 unshare --mount --net --pid --fork --kill-child "$0" "$@" || true
    # Where another machine had the link already, link and cgroups are that one's.
    if [ -e "$folder/connected" ]; then
        ip link delete "$link" 2>/dev/null || true
        find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} + 2>/dev/null || true
    fi
    [ ${#made[@]} = 0 ] || rmdir "${made[@]}"
    rm -rf "$folder"
}

within() {
    local pid
    # /proc is still the outer machine's, and knows this process by its pid there.
    read -r pid _ </proc/self/stat
    connect
    mount -t proc proc /proc
    hide_settings
    mount -t tmpfs tmpfs /run
    for each in "${private_folders[@]}"; do
        mkdir -p "$each"
        mount -t tmpfs tmpfs "$each"
    done
    make_cgroups
    echo 1 >/proc/sys/net/ipv4/ip_forward
    [ ! -e /proc/sys/net/bridge ] || echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
    echo "$pid" >"$folder/pid.new"
    mv "$folder/pid.new" "$folder/pid"
    # Also the first process of the machine: those whose parents ended are its to reap.
    cat >/dev/null
}

connect() {
    local each
    ip link set lo up
    ip link add eth0 type veth peer name "$link"
    ip link set "$link" netns /proc/self/fd/8 ||
        { echo "the link $link exists: does another cluster of the tests run?"; exit 1; }
    touch "$folder/connected"
    ip address add "$node_address/24" dev eth0
    ip link set eth0 up
    outer ip address add "$host_address/24" dev "$link"
    outer ip link set "$link" up
    for each in "${routes[@]}"; do
        outer ip route add "$each" via "$node_address"
    done
}

outer() { nsenter --net=/proc/self/fd/8 "$@"; }

# The kubelet sets the kernel's; here it sets files.
hide_settings() {
    local each file
    for each in "${kubelet_settings[@]}"; do
        [ -e "/proc/sys/$each" ] || continue
        file=$folder/${each//\//.}
        cat "/proc/sys/$each" >"$file"
        mount --bind "$file" "/proc/sys/$each"
    done
}

make_cgroups() {
    local each
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        sed 's/[^ ]*/+&/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
        mkdir -p "/sys/fs/cgroup/$cgroup"
        return
    fi
    for each in /sys/fs/cgroup/*/; do
        mkdir -p "$each$cgroup"
    done
}

if [ -n "${WITHIN:-}" ]; then within; else outside "$@"; fi
