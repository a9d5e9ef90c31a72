#!/usr/bin/env bash
# debian_packages.sh RELEASE DIRECTORY PACKAGE...
#
# Unpacks packages of another Debian release (bullseye, trixie ...) into a directory beside the system, unless it is
# there already: without root, in a package state of its own, from the mirror that this machine uses.
set -euo pipefail

release="$1" target="$2"
shift 2
if [ -e "$target" ]; then exit; fi
site="$(apt-get indextargets --format '$(SITE)' 2>/dev/null | grep -m1 'debian$' || true)"
site="${site:-http://deb.debian.org/debian}"
mkdir -p "$(dirname "$target")"
work="$(mktemp -d "$target.XXXXXX")"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,archives/partial,etc,unpacked}
echo "deb $site $release main" >"$work/sources.list"
apt=(apt-get -qq
    -o "Dir::Etc::sourcelist=$work/sources.list" -o "Dir::Etc::sourceparts=$work/etc"
    -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work" -o "Dir::Cache::archives=$work/archives"
    -o "Dir::State::status=$work/status" -o APT::Sandbox::User=root -o Debug::NoLocking=1)
touch "$work/status"
"${apt[@]}" update >&2
cd "$work"
"${apt[@]}" download "$@" >&2
for package in ./*.deb; do dpkg-deb -x "$package" unpacked; done
# What links to a place of the system means the same place in here.
find unpacked -type l -lname '/*' | while read -r link; do
    place="$(readlink "$link")"
    if [ -e "unpacked$place" ]; then ln -sfnr "unpacked$place" "$link"; fi
done
mv -T unpacked "$target"
