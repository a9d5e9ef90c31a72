#!/usr/bin/env bash
# ./run on a machine without Rust, with an old one, and with one of another name; rustup and its download are made up.
# One line per test: PASS name | FAIL name | SKIP name: reason
set -uo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
if [ -e /usr/bin/cargo ] || [ -e /bin/cargo ]; then echo "SKIP setup: there is a cargo in /usr/bin"; exit 0; fi
WORK="$(mktemp -d)"
trap 'rm -rf "$WORK"' EXIT
status=0
WANTED="$(sed -n 's/^channel = "\(.*\)"/\1/p' "$ROOT/rust-toolchain.toml")"

# check NAME CODE PATTERN COMMAND...: the exit code, and an extended regular expression that the output has.
check() {
    local name="$1" code="$2" pattern="$3" found=0
    shift 3
    "$@" >"$WORK/log" 2>&1 </dev/null || found=$?
    if [ "$found" = "$code" ] && grep -qE -e "$pattern" "$WORK/log"; then echo "PASS setup: $name"; else
        echo "FAIL setup: $name: exit code $found, not $code, or no $pattern"
        sed 's/^/    /' "$WORK/log"
        status=1
    fi
}

# run HOME COMMAND...: with the made-up programs of HOME/bin in front of the system's.
run() {
    local home="$1"
    shift
    env -u CI -u RUSTUP_TOOLCHAIN -u CARGO_HOME HOME="$home" PATH="$home/bin:/usr/bin:/bin" "$@"
}

# rust_of FOLDER VERSION: a cargo and a rustc; of rustup's, if a third argument names the only toolchain.
rust_of() {
    mkdir -p "$1"
    # shellcheck disable=SC2016
    printf '#!/bin/sh\n[ -z "%s" ] || [ "$RUSTUP_TOOLCHAIN" = "%s" ] || exit 1\necho "rustc %s (made up)"\n' "${3:-}" "${3:-}" "$2" >"$1/rustc"
    printf '#!/bin/sh\nexit 0\n' >"$1/cargo"
    chmod +x "$1/rustc" "$1/cargo"
}

mkdir -p "$WORK/none/bin"
# The download is a script that puts a Rust of the version it is asked for where rustup does.
cat >"$WORK/none/bin/curl" <<'CURL'
#!/bin/sh
cat <<'SCRIPT'
for version; do :; done
mkdir -p "$HOME/.cargo/bin"
printf '#!/bin/sh\necho "rustc %s (made up)"\n' "$version" >"$HOME/.cargo/bin/rustc"
printf '#!/bin/sh\nexit 0\n' >"$HOME/.cargo/bin/cargo"
chmod +x "$HOME/.cargo/bin/rustc" "$HOME/.cargo/bin/cargo"
SCRIPT
CURL
chmod +x "$WORK/none/bin/curl"

check "without Rust and without somebody to ask nothing is installed, and the way is named" 6 \
    "Rust $WANTED or newer is needed; ./run COMMAND --yes .*--default-toolchain $WANTED" run "$WORK/none" "$ROOT/run" rust
check "... and a home that was not touched" 0 "no" run "$WORK/none" sh -c 'test ! -e "$HOME/.cargo" && echo no'
check "--yes installs it and goes on" 0 "installing Rust $WANTED" run "$WORK/none" "$ROOT/run" rust --yes
check "a second time there is nothing to install" 0 "nothing" run "$WORK/none" sh -c '[ -z "$("$0" rust 2>&1)" ] && echo nothing' "$ROOT/run"
rm -rf "$WORK/none/.cargo"
check "CI does not ask" 0 "installing Rust $WANTED" run "$WORK/none" env CI=true "$ROOT/run" rust

rust_of "$WORK/old/bin" 1.70.0
check "an old Rust is refused" 6 "Rust $WANTED or newer is needed" run "$WORK/old" "$ROOT/run" rust

rust_of "$WORK/stable/bin" "$WANTED" stable-x86_64-unknown-linux-gnu
printf '#!/bin/sh\necho "nightly-x86_64-unknown-linux-gnu"\necho "stable-x86_64-unknown-linux-gnu (default)"\n' >"$WORK/stable/bin/rustup"
chmod +x "$WORK/stable/bin/rustup"
check "another toolchain of rustup's that is as new serves" 0 "^served" run "$WORK/stable" sh -c '"$0" rust && echo served' "$ROOT/run"

failing() { run "$WORK/fail" "$ROOT/run" rust --yes; }
mkdir -p "$WORK/fail/bin"
printf '#!/bin/sh\necho "no network" >&2\nexit 6\n' >"$WORK/fail/bin/curl"
chmod +x "$WORK/fail/bin/curl"
check "a download that fails is said" 6 "Rust could not be installed" failing
exit "$status"
