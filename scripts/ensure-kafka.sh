#!/usr/bin/env bash
# Makes sure that a Kafka broker can be started by the tests: Java, Maven and the broker's jars, in
# a cache outside the repository, keyed by version. FASED_TEST_KAFKA names a broker to use instead.
set -euo pipefail
cd "$(dirname "$0")/.."

[ -z "${FASED_TEST_KAFKA:-}" ] || exit 0
pom=tests/support/kafka/pom.xml
version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$pom")
home=${XDG_CACHE_HOME:-$HOME/.cache}/fased-testbed/kafka-$version

fail() {
    echo "$1" >&2
    exit 2
}

java_works() { java -version 2>&1 | grep -Eq 'version "(1[7-9]|[2-9][0-9])'; }
maven_works() { mvn --version >/dev/null 2>&1; }
install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; }

# Installs the packages as root; without root, or in vain, the caller says what is missing.
try_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 0
    echo "installing $* for the tests' Kafka"
    { install "$@" || { apt-get update -qq && install "$@"; }; } >/dev/null 2>&1 || true
}

java_works || try_install openjdk-17-jre-headless
java_works || fail "the tests' Kafka needs Java 17 or newer: install openjdk-17-jre-headless, then try again"
[ -d "$home/libs" ] && exit 0

maven_works || try_install maven
maven_works || fail "the tests' Kafka needs Maven to fetch its jars: install maven, then try again"
echo "fetching Kafka $version into $home"
mkdir -p "$home"
fetched=$(mktemp -d "$home/fetching.XXXXXX")
trap 'rm -rf "$fetched"' EXIT
mvn --batch-mode --quiet --file "$pom" dependency:copy-dependencies \
    -DoutputDirectory="$fetched/libs" ||
    fail "Maven could not fetch Kafka $version: see above, then try again"
# Another run may have been quicker: its jars are the same.
mv -T "$fetched/libs" "$home/libs" 2>/dev/null || [ -d "$home/libs" ]
