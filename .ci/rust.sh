# Sourced by run and .ci/run: a Rust that is new enough, in PATH and for cargo. It may ask, and it may install.
# ROOT is the repository; YES=1, or CI=true, installs without a question.

rust_wanted() { sed -n 's/^channel = "\(.*\)"/\1/p' "$ROOT/rust-toolchain.toml"; }

version_at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1)" = "$1" ]; }

# rust_serves [TOOLCHAIN]: is there a cargo, and a rustc of the wanted version or newer? Nothing is installed by asking.
rust_serves() {
    if [ $# -gt 0 ]; then local -x RUSTUP_TOOLCHAIN="$1"; fi
    local -x RUSTUP_AUTO_INSTALL=0
    local have
    command -v cargo >/dev/null || return 1
    have="$(cd "$ROOT" && rustc --version 2>/dev/null | cut -d' ' -f2)"
    [ -n "$have" ] && version_at_least "$(rust_wanted)" "${have%%-*}"
}

need_rust() {
    local wanted installed line
    wanted="$(rust_wanted)"
    if [ -d "$HOME/.cargo/bin" ]; then PATH="$HOME/.cargo/bin:$PATH"; fi
    if rust_serves; then return 0; fi
    # rustup knows another toolchain that is as new, under another name ("stable").
    if command -v rustup >/dev/null; then
        while read -r installed _; do
            if rust_serves "$installed"; then
                export RUSTUP_TOOLCHAIN="$installed"
                return 0
            fi
        done < <(rustup toolchain list 2>/dev/null)
        line="rustup toolchain install $wanted --profile minimal --component rustfmt --component clippy"
    else
        line="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --component rustfmt --component clippy --default-toolchain $wanted"
    fi
    rust_may_be_installed "$wanted" ||
        fail 6 "Rust $wanted or newer is needed; ./run COMMAND --yes installs it into your home, without root, by: $line"
    if ! command -v curl >/dev/null && ! command -v rustup >/dev/null; then
        need_packages curl:curl update-ca-certificates:ca-certificates
    fi
    say "installing Rust $wanted: $line"
    bash -c "set -o pipefail; $line" </dev/null >&2 || fail 6 "Rust could not be installed; the line was: $line"
    PATH="$HOME/.cargo/bin:$PATH"
    rust_serves || fail 6 "Rust $wanted is not to be found in $HOME/.cargo/bin after its installation"
}

rust_may_be_installed() {
    if [ "${YES:-0}" = 1 ] || [ "${CI:-}" = true ]; then return 0; fi
    # A question needs somebody who reads it.
    [ -t 0 ] && [ -t 2 ] || return 1
    local answer
    printf 'Rust %s is not installed. Install it now, by rustup, into %s (~/.rustup and ~/.cargo, some 600 MB)? [y/N] ' "$1" "$HOME" >&2
    read -r answer || return 1
    case "$answer" in [yY]*) return 0 ;; *) return 1 ;; esac
}

# need_packages COMMAND:PACKAGE... : installs the packages whose command is missing, when root.
# Names that could not be had are left in MISSING_COMMANDS.
MISSING_COMMANDS=()
need_packages() {
    local pair packages=()
    MISSING_COMMANDS=()
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || packages+=("${pair#*:}")
    done
    [ ${#packages[@]} -gt 0 ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing system packages: ${packages[*]}"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"; } \
            </dev/null >&2 || say "apt-get could not install all of: ${packages[*]}"
    else
        say "not root: these system packages are missing: ${packages[*]} (apt-get install ${packages[*]})"
    fi
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || MISSING_COMMANDS+=("${pair%%:*}")
    done
}
