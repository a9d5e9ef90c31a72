#!/bin/sh
# Makes the distribution's tarball from what was built: dist/make.sh FOLDER_OF_BUILT_FILES OUTPUT_FOLDER
# Prints the tarball's path. ./run dist builds first, then calls this.
set -eu
BUILT="$1"
OUT="$2"
ROOT="$(cd "$(dirname "$0")/.." && pwd)"
# The oldest glibc that the analyzer runs with. libshim.so needs none in particular.
OLDEST_GLIBC=2.34

fail() { printf 'dist: %s\n' "$2" >&2; exit "$1"; }
for tool in readelf strip tar gzip sha256sum; do
    command -v "$tool" >/dev/null || fail 6 "$tool is needed: apt-get install binutils tar gzip coreutils"
done
for file in analyzer libshim.so; do
    [ -f "$BUILT/$file" ] || fail 6 "$BUILT/$file is not there: ./run build"
done

version="$(sed -n 's/^version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml" | head -n1)"
name="sparkanalyzer-$version-linux-x86_64"
stage="$OUT/$name"
rm -rf "$stage"
mkdir -p "$stage/bin" "$stage/lib" "$stage/conf" "$stage/docs" "$stage/share/man/man1" "$stage/share/completions"

# Symbols and line numbers are what a debugger wants; the built file keeps them.
strip -o "$stage/bin/analyzer" "$BUILT/analyzer"
# Bytes. Most of them are polars'.
LARGEST_ANALYZER=40000000
[ "$(stat -c %s "$stage/bin/analyzer")" -le "$LARGEST_ANALYZER" ] ||
    fail 1 "analyzer has $(stat -c %s "$stage/bin/analyzer") bytes, $LARGEST_ANALYZER at most"
cp "$BUILT/libshim.so" "$stage/lib/libshim.so"
cp "$ROOT/conf/sparkanalyzer.toml" "$stage/conf/"
cp -r "$ROOT/conf/snippets" "$stage/conf/snippets"
cp "$ROOT/README.md" "$ROOT/CHANGELOG.md" "$ROOT/LICENSE" "$stage/"
cp -r "$ROOT/docs/." "$stage/docs/"
cp "$ROOT/SECURITY.md" "$stage/"
cp "$ROOT/dist/install.sh" "$stage/"
"$stage/bin/analyzer" man "$stage/share/man/man1"
for shell in bash zsh fish; do
    "$stage/bin/analyzer" completions "$shell" >"$stage/share/completions/analyzer.$shell"
done
chmod -R u=rwX,go=rX "$stage"
chmod 755 "$stage/bin/analyzer" "$stage/lib/libshim.so" "$stage/install.sh"

newest="$(readelf -V "$stage/bin/analyzer" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -V | tail -n1)"
[ "$(printf '%s\n%s\n' "$newest" "$OLDEST_GLIBC" | sort -V | tail -n1)" = "$OLDEST_GLIBC" ] ||
    fail 1 "analyzer needs glibc $newest, the documents say $OLDEST_GLIBC"
if readelf -dV "$stage/lib/libshim.so" | grep -qE 'NEEDED|GLIBC_'; then
    fail 1 "libshim.so needs another library or a version of glibc"
fi
printf '%s\n' "$OLDEST_GLIBC" >"$stage/docs/oldest-glibc"

(cd "$stage" && find . -type f ! -name SHA256SUMS | sort | xargs sha256sum >SHA256SUMS)
# The same bytes for the same contents.
tar -C "$OUT" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-0}" -cf - "$name" |
    gzip -n >"$OUT/$name.tar.gz.new"
mv -f "$OUT/$name.tar.gz.new" "$OUT/$name.tar.gz"
(cd "$OUT" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
printf '%s\n' "$OUT/$name.tar.gz"
