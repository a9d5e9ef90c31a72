#!/usr/bin/env bash
# The tarball of ./run dist: made from the built files, installed, upgraded under a running process, removed.
set -uo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
BIN="${SPARKANALYZER_TEST_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/release}"
for file in analyzer libshim.so; do
    [ -f "$BIN/$file" ] || { echo "SKIP dist: $BIN/$file is not there (./run build)"; exit 0; }
done
WORK="$(mktemp -d)"
SLEEPER=""
trap 'if [ -n "$SLEEPER" ]; then kill "$SLEEPER" 2>/dev/null; fi; rm -rf "$WORK"' EXIT
status=0
unset LD_PRELOAD SPARKANALYZER_SHIM SPARKANALYZER_CONF

# check NAME COMMAND...: PASS if the command succeeds.
check() {
    local name="$1"
    shift
    if "$@" >"$WORK/log" 2>&1; then echo "PASS dist: $name"; else
        echo "FAIL dist: $name"
        sed 's/^/    /' "$WORK/log"
        status=1
    fi
}

made() {
    TARBALL="$("$ROOT/dist/make.sh" "$BIN" "$WORK/out")" && [ -f "$TARBALL" ] &&
        (cd "$WORK/out" && sha256sum -c ./*.sha256) && tar -C "$WORK" -xzf "$TARBALL"
}
check "the tarball is made; analyzer needs no newer glibc than it says, libshim.so none" made
FROM="$(find "$WORK" -maxdepth 1 -name 'sparkanalyzer-*' -type d)"
PREFIX="$WORK/prefix"
CONF="$WORK/etc"
install() { "$FROM/install.sh" --prefix "$PREFIX" --conf-dir "$CONF" "$@"; }

counts() { "$PREFIX/bin/analyzer" trace --json "$WORK/counts.json" -- /bin/true && grep -q '"instructions": *[1-9]' "$WORK/counts.json"; }
installed() { install && [ -f "$CONF/sparkanalyzer.toml" ] && counts && [ -f "$PREFIX/share/man/man1/analyzer-report.1" ]; }
check "installed, it finds its library and counts" installed

well() {
    local found
    found="$("$PREFIX/bin/analyzer" doctor --conf "$CONF/sparkanalyzer.toml")"
    echo "$found"
    grep -q '^good *library ' <<<"$found" && grep -q '^good *counting ' <<<"$found" && grep -q '^good *conf ' <<<"$found"
}
check "its doctor finds library, conf and counting well" well

upgraded() {
    LD_PRELOAD="$PREFIX/lib/libshim.so" sleep 300 &
    SLEEPER=$!
    for _ in $(seq 100); do grep -q libshim.so "/proc/$SLEEPER/maps" && break; sleep 0.05; done
    local before after
    before="$(stat -c %i "$PREFIX/lib/libshim.so")"
    echo "# mine" >>"$CONF/sparkanalyzer.toml"
    install || return 1
    after="$(stat -c %i "$PREFIX/lib/libshim.so")"
    # The process keeps the file that it has mapped; new ones get the new file; the conf stays.
    [ "$before" != "$after" ] && grep -q 'libshim.so (deleted)' "/proc/$SLEEPER/maps" && kill -0 "$SLEEPER" &&
        tail -n1 "$CONF/sparkanalyzer.toml" | grep -q mine && counts &&
        [ -z "$(find "$PREFIX" -name '*.new-*')" ]
}
check "upgraded while a process has the library mapped; a changed conf stays" upgraded

added() {
    local code=0
    echo 'echo added' >"$FROM/bin/added"
    install || code=$?
    rm "$FROM/bin/added"
    [ "$code" = 3 ] && [ ! -e "$PREFIX/bin/added" ]
}
check "a file that SHA256SUMS does not name is refused" added

others() {
    local code=0
    ln -s "$WORK" "$WORK/link"
    # With a slash at its end a link is looked through: the folder behind it would be opened to everybody.
    local end
    for end in "" / /. //; do
        code=0
        install --records-dir "$WORK/link$end" || code=$?
        [ "$code" = 4 ] || return 1
    done
    install --records-dir "$WORK/records" && [ "$(stat -c %a "$WORK/records")" = 1777 ] || return 1
    install --records-dir "$WORK/records" || return 1
    # Only root can give a folder away.
    [ "$(id -u)" = 0 ] || return 0
    code=0
    chown 70001 "$WORK/records"
    install --records-dir "$WORK/records" || code=$?
    [ "$code" = 4 ] || return 1
    code=0
    mkdir "$WORK/planted" && chown 70001 "$WORK/planted"
    "$FROM/install.sh" --prefix "$WORK/planted" --conf-dir "$CONF" || code=$?
    [ "$code" = 4 ] && [ -z "$(ls "$WORK/planted")" ]
}
check "folders that are links or somebody else's are refused" others

refused() {
    local code=0
    echo x >>"$FROM/README.md"
    install || code=$?
    [ "$code" = 3 ] && code=0 && { "$FROM/install.sh" --no-such || code=$?; } && [ "$code" = 2 ]
}
check "a damaged tarball and wrong arguments are refused" refused

removed() {
    install --uninstall || return 1
    [ ! -e "$PREFIX" ] && [ -f "$CONF/sparkanalyzer.toml" ] && kill -0 "$SLEEPER"
}
check "removed without a trace but the changed conf" removed
exit "$status"
