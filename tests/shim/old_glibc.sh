#!/usr/bin/env bash
# Unpacks Debian 11's libc6 (glibc 2.31) and libgcc beside the system, and prints the directory: without root, in a
# package state of its own, from the mirror that this machine uses already.
set -euo pipefail

target="$1"
if [ -e "$target/lib/x86_64-linux-gnu/libc-2.31.so" ]; then
    echo "$target"
    exit
fi
site="$(apt-get indextargets --format '$(SITE)' 2>/dev/null | grep -m1 'debian$' || true)"
site="${site:-http://deb.debian.org/debian}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,archives/partial,etc}
echo "deb $site bullseye main" >"$work/sources.list"
apt=(apt-get -qq
    -o "Dir::Etc::sourcelist=$work/sources.list" -o "Dir::Etc::sourceparts=$work/etc"
    -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work" -o "Dir::Cache::archives=$work/archives"
    -o "Dir::State::status=$work/status" -o APT::Sandbox::User=root -o Debug::NoLocking=1)
touch "$work/status"
"${apt[@]}" update >&2
cd "$work"
"${apt[@]}" download libc6 libgcc-s1 >&2
mkdir -p "$target"
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$target"; done
test -e "$target/lib/x86_64-linux-gnu/libc-2.31.so"
echo "$target"
