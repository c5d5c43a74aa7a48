#!/usr/bin/env bash
# Prints the path of a Chromium for tests, of Debian's package, which it installs where that is missing and may be installed.
# Exit code 3, and a line that says why, where there is none.
set -euo pipefail

refuse() {
    echo "$1" >&2
    exit 3
}

found() {
    local name
    for name in chromium chromium-browser google-chrome; do
        command -v "$name" && return 0
    done
    return 1
}

found && exit 0
[ "$(id -u)" = 0 ] || refuse "there is no chromium, and installing one needs root"
command -v apt-get >/dev/null || refuse "there is no chromium, and no apt-get to install it"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt=(timeout 300 apt-get -o Acquire::Retries=1 -o Acquire::http::Timeout=20 install --yes --no-install-recommends chromium fonts-dejavu-core)
{ "${apt[@]}" || { timeout 120 apt-get -o Acquire::http::Timeout=20 update && "${apt[@]}"; }; } >/dev/null 2>"$log" ||
    refuse "apt-get can't install chromium: $(tail -n 1 "$log")"
found || refuse "chromium was installed, but can't be found"
