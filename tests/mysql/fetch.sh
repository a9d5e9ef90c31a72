#!/usr/bin/env bash
# Unpacks MySQL's server from Debian's unstable suite, with the libraries that it needs, into a folder of its own:
# Debian's stable suites have MariaDB alone. Prints the program's path. Nothing is installed.
# Usage: fetch.sh FOLDER
set -euo pipefail

FOLDER="$(mkdir -p "$1" && cd "$1" && pwd)"
PACKAGE=mysql-server-core
MIRROR="${DEBIAN_MIRROR:-http://deb.debian.org/debian}"

run() { "$FOLDER/mysqld" --no-defaults --version >/dev/null 2>&1; }

if ! run; then
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        { echo "fetch.sh: apt-get and dpkg-deb are needed (Debian or one of its children)" >&2; exit 6; }
    rm -rf "$FOLDER/apt" "$FOLDER/root"
    mkdir -p "$FOLDER"/apt/{lists/partial,cache/archives/partial,none} "$FOLDER/root"
    : >"$FOLDER/apt/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $MIRROR sid main" >"$FOLDER/apt/sources.list"
    # A state of apt's own, in which nothing is installed: so every library comes along, libc too.
    options=(-qq -o "Dir::State=$FOLDER/apt" -o "Dir::State::status=$FOLDER/apt/status" -o "Dir::Cache=$FOLDER/apt/cache"
        -o "Dir::Etc::sourcelist=$FOLDER/apt/sources.list" -o "Dir::Etc::sourceparts=$FOLDER/apt/none" -o "Dir::Etc::preferencesparts=$FOLDER/apt/none"
        -o APT::Sandbox::User=root -o Acquire::Languages=none -o APT::Install-Recommends=false -o Debug::NoLocking=true)
    apt-get "${options[@]}" update </dev/null >&2
    apt-get "${options[@]}" --download-only --yes install "$PACKAGE" </dev/null >&2
    for package in "$FOLDER"/apt/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$FOLDER/root"
    done
    rm -rf "$FOLDER/apt"
    cat >"$FOLDER/mysqld" <<TEXT
#!/bin/sh
# The server with its own loader and libraries.
root="$FOLDER/root"
exec "\$root/usr/lib64/ld-linux-x86-64.so.2" \
    --library-path "\$root/usr/lib/x86_64-linux-gnu:\$root/usr/lib/x86_64-linux-gnu/mysql" \
    "\$root/usr/sbin/mysqld" "\$@"
TEXT
    chmod +x "$FOLDER/mysqld"
    run || { echo "fetch.sh: $FOLDER/mysqld does not run" >&2; exit 1; }
fi
echo "$FOLDER/mysqld"
