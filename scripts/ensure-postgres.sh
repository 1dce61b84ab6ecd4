#!/usr/bin/env bash
# Makes sure that the tests' cluster finds a PostgreSQL 15 server, where root may install Debian's;
# elsewhere those tests run on the embedded one, and say so.
set -euo pipefail

[ -x /usr/lib/postgresql/15/bin/postgres ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing postgresql-15 for the tests' cluster"
    # The package would start a server of its own; the tests start theirs.
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; }
    { install postgresql-15 || { apt-get update -qq && install postgresql-15; }; } >/dev/null 2>&1 ||
        true
fi
[ -x /usr/lib/postgresql/15/bin/postgres ] ||
    echo "no PostgreSQL 15 here: the tests' cluster runs on the embedded one"
