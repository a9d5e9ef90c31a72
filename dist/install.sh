#!/bin/sh
# Installs or upgrades Sparkanalyzer from the unpacked tarball, also while jobs run: every file appears by a
# rename, so that processes keep the library that they have mapped.
#
#   ./install.sh [--prefix DIR] [--conf-dir DIR] [--records-dir DIR] [--uninstall]
#
# --prefix DIR    where bin/analyzer and lib/libshim.so go (default /opt/sparkanalyzer)
# --conf-dir DIR  where sparkanalyzer.toml goes (default /etc/sparkanalyzer, which libshim.so reads; as
#                 another user than root: PREFIX/etc). A conf file that is there stays as it is.
# --records-dir DIR  also makes the folder for the records of several users (mode 1777), /var/tmp/sparkanalyzer
#                 for example; one that is somebody else's, or a link, is refused
# --uninstall     removes what was installed; a conf file that was changed, and all records, stay
#
# Exit code: 0 done, 2 wrong usage, 3 the tarball is damaged, 4 something cannot be written or is somebody else's.
set -eu
FROM="$(cd "$(dirname "$0")" && pwd)"
PREFIX=/opt/sparkanalyzer
CONF_DIR=""
RECORDS_DIR=""
UNINSTALL=no

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | sed '/^set/d'; }
fail() { printf 'install.sh: %s\n' "$2" >&2; exit "$1"; }
while [ $# -gt 0 ]; do
    case "$1" in
        --prefix) [ $# -ge 2 ] || fail 2 "--prefix needs a folder"; PREFIX="$2"; shift 2 ;;
        --prefix=*) PREFIX="${1#*=}"; shift ;;
        --conf-dir) [ $# -ge 2 ] || fail 2 "--conf-dir needs a folder"; CONF_DIR="$2"; shift 2 ;;
        --conf-dir=*) CONF_DIR="${1#*=}"; shift ;;
        --records-dir) [ $# -ge 2 ] || fail 2 "--records-dir needs a folder"; RECORDS_DIR="$2"; shift 2 ;;
        --records-dir=*) RECORDS_DIR="${1#*=}"; shift ;;
        --uninstall) UNINSTALL=yes; shift ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; fail 2 "unknown argument: $1" ;;
    esac
done
case "$PREFIX" in
    /*) ;;
    *) PREFIX="$PWD/$PREFIX" ;;
esac
case "$PREFIX" in
    *[\ :]*) fail 2 "$PREFIX: LD_PRELOAD takes no path with a space or a colon" ;;
esac
if [ -z "$CONF_DIR" ]; then
    if [ "$(id -u)" = 0 ]; then CONF_DIR=/etc/sparkanalyzer; else CONF_DIR="$PREFIX/etc"; fi
fi
LIST="$PREFIX/share/installed-files"

if [ "$UNINSTALL" = yes ]; then
    [ -f "$LIST" ] || fail 2 "$PREFIX: nothing was installed there (no $LIST)"
    while IFS= read -r file; do rm -f "$PREFIX/$file"; done <"$LIST"
    if [ -f "$CONF_DIR/sparkanalyzer.toml" ]; then
        if [ -f "$PREFIX/share/sparkanalyzer.toml.default" ] &&
            cmp -s "$CONF_DIR/sparkanalyzer.toml" "$PREFIX/share/sparkanalyzer.toml.default"; then
            rm -f "$CONF_DIR/sparkanalyzer.toml"
        else
            printf 'kept, as it was changed: %s\n' "$CONF_DIR/sparkanalyzer.toml"
        fi
    fi
    rm -f "$PREFIX/share/sparkanalyzer.toml.default" "$LIST"
    # Folders that are empty now; others may hold things that are not ours.
    find "$PREFIX" "$CONF_DIR" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    printf 'removed from %s. LD_PRELOAD in spark-env.sh, spark-defaults.conf or yarn-site.xml must go too:\n' "$PREFIX"
    printf 'the loader says on standard error of every process if the file is missing, and goes on.\n'
    exit 0
fi

(cd "$FROM" && sha256sum --quiet -c SHA256SUMS) >&2 ||
    fail 3 "$FROM: files differ from SHA256SUMS: fetch and unpack the tarball again"
# And each file is among them: one that somebody has added would be installed unseen.
listed="$(sed 's/^[0-9a-f]\{64\} [ *]//' "$FROM/SHA256SUMS" | LC_ALL=C sort)"
found="$(cd "$FROM" && find . ! -type d ! -path ./SHA256SUMS | LC_ALL=C sort)"
[ "$listed" = "$found" ] ||
    fail 3 "$FROM: SHA256SUMS does not name exactly the files that are there: fetch and unpack the tarball again"

# without_end DIR: without the slashes and dots at its end, with which a link would be looked through.
without_end() {
    path="$1"
    while :; do
        case "$path" in
            /) break ;;
            */.) path="${path%/.}" ;;
            */) path="${path%/}" ;;
            *) break ;;
        esac
        [ -n "$path" ] || path=/
    done
    printf '%s\n' "$path"
}
PREFIX="$(without_end "$PREFIX")"
CONF_DIR="$(without_end "$CONF_DIR")"
RECORDS_DIR="${RECORDS_DIR:+"$(without_end "$RECORDS_DIR")"}"

# ours DIR: a folder that exists must be this user's or root's, and no link: whose it is can change what lies in it.
ours() {
    if [ -L "$1" ]; then fail 4 "$1: is a symbolic link; name the folder that it leads to"; fi
    [ -e "$1" ] || return 0
    [ -d "$1" ] || fail 4 "$1: is no folder"
    owner="$(stat -c %u "$1")"
    [ "$owner" = 0 ] || [ "$owner" = "$(id -u)" ] ||
        fail 4 "$1: belongs to user $owner, who can change what lies in it; remove it or name another one"
}
for folder in "$PREFIX" "$PREFIX/bin" "$PREFIX/lib" "$PREFIX/conf" "$PREFIX/docs" "$PREFIX/share" "$PREFIX/share/man" \
    "$PREFIX/share/man/man1" "$PREFIX/share/completions" "$PREFIX/conf/snippets" "$CONF_DIR" ${RECORDS_DIR:+"$RECORDS_DIR"}; do
    ours "$folder"
done

# put FILE: writes it beside its place, then renames: whoever has the old one mapped keeps it.
put() {
    mkdir -p "$PREFIX/$(dirname "$1")" || fail 4 "$PREFIX/$(dirname "$1") cannot be made (as root?)"
    new="$(mktemp "$PREFIX/$1.new-XXXXXXXXXX")" && cp "$FROM/$1" "$new" && chmod "$(stat -c %a "$FROM/$1")" "$new" &&
        mv -f "$new" "$PREFIX/$1" ||
        fail 4 "$PREFIX/$1 cannot be written (as root?)"
}
old_umask="$(umask)"
umask 022
files="$(cd "$FROM" && find bin lib conf docs share -type f | sort; printf '%s\n' README.md CHANGELOG.md LICENSE SECURITY.md)"
printf '%s\n' "$files" | while IFS= read -r file; do put "$file"; done
mkdir -p "$CONF_DIR" || fail 4 "$CONF_DIR cannot be made (as root?)"
if [ ! -f "$CONF_DIR/sparkanalyzer.toml" ]; then
    cp "$FROM/conf/sparkanalyzer.toml" "$CONF_DIR/sparkanalyzer.toml"
elif ! cmp -s "$CONF_DIR/sparkanalyzer.toml" "$FROM/conf/sparkanalyzer.toml"; then
    printf 'kept: %s (the new defaults are in %s)\n' "$CONF_DIR/sparkanalyzer.toml" "$PREFIX/conf/sparkanalyzer.toml"
fi
rm -f "$PREFIX/share/sparkanalyzer.toml.default"
cp "$FROM/conf/sparkanalyzer.toml" "$PREFIX/share/sparkanalyzer.toml.default"
new="$(mktemp "$LIST.new-XXXXXXXXXX")"
printf '%s\n' "$files" >"$new"
chmod 644 "$new"
mv -f "$new" "$LIST"
umask "$old_umask"
if [ -n "$RECORDS_DIR" ]; then
    # mkdir and not -p for the last one: what is there was looked at above.
    mkdir -p "$(dirname "$RECORDS_DIR")"
    [ -d "$RECORDS_DIR" ] || mkdir "$RECORDS_DIR" || fail 4 "$RECORDS_DIR cannot be made"
    ours "$RECORDS_DIR"
    chmod 1777 "$RECORDS_DIR" || fail 4 "$RECORDS_DIR cannot be given mode 1777"
fi

cat <<TEXT
installed: $PREFIX/bin/analyzer, $PREFIX/lib/libshim.so; settings: $CONF_DIR/sparkanalyzer.toml
next:
  install.sh --records-dir /var/tmp/sparkanalyzer    the folder for records, if several users run executors
  $PREFIX/bin/analyzer doctor                    checks this node
  $PREFIX/bin/analyzer spark-conf --library $PREFIX/lib/libshim.so     what to set in Spark
TEXT
