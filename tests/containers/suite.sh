#!/usr/bin/env bash
# Programs in containers and sandboxes, natively and under `analyzer trace`: the same output and exit status.
#
# Containers are those of in_container.sh, with both profiles, and rootless ones. Sandboxes are the programs' own: chromium's, sshd's, tor's, man's, file's. One line per test:
# PASS name | FAIL name | SKIP name: reason
#   tests/containers/suite.sh [--only PART_OF_A_NAME]
set -uo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
BIN="${SPARKANALYZER_TEST_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/release}"
for file in analyzer libshim.so; do
    [ -f "$BIN/$file" ] || { echo "SKIP containers: $BIN/$file is not there (./run build)"; exit 0; }
done
ONLY=""
if [ "${1:-}" = --only ]; then ONLY="${2:-}"; fi
WORK="$(mktemp -d)"
chmod 755 "$WORK"
PIDS=()
# The number of a user that nobody has.
GUEST=20100
# The containers' storage is ours alone, and so are its mounts.
clean_up() {
    local pid
    # podman keeps a process of the made-up user for its next container.
    for pid in "${PIDS[@]:-}" $(pgrep -U "$GUEST" podman); do [ -z "$pid" ] || kill "$pid" 2>/dev/null; done
    umount -l "$WORK"/storage/overlay* "$WORK"/rootless/.local/share/containers/storage/overlay 2>/dev/null
    rm -rf --one-file-system "$WORK"
}
trap clean_up EXIT
status=0
unset LD_PRELOAD SPARKANALYZER_SHIM SPARKANALYZER_CONF
export LC_ALL=C

wanted() { case "$1" in *"$ONLY"*) return 0 ;; *) return 1 ;; esac; }
pass() { echo "PASS containers: $1"; }
skipped() { echo "SKIP containers: $1: $2"; }
# failed NAME: what differs is on standard input.
failed() {
    echo "FAIL containers: $1"
    head -c 4000 | sed 's/^/    /'
    status=1
}

# The library's copy lies where every user may read it.
mkdir "$WORK/bin"
cp "$BIN/analyzer" "$BIN/libshim.so" "$WORK/bin/"
chmod 755 "$WORK/bin" "$WORK/bin/"*

# both NAME [LIMIT] -- COMMAND...: runs WRAP COMMAND natively and under trace; the same output and exit code. WRAP is an array
# in front of both: a container, or another user. FILTER, a function, may take out of an output what varies.
WRAP=()
unfiltered() { cat; }
FILTER=unfiltered
both() {
    local name="$1" limit=60
    shift
    if [ "$1" != -- ]; then limit="$1"; shift; fi
    shift
    wanted "$name" || return 0
    local here="$WORK/run" native=0 traced=0
    rm -rf "$here"
    mkdir -m 777 "$here"
    timeout -k 5 "$limit" "${WRAP[@]}" "$@" >"$here/native.out" 2>"$here/native.err" </dev/null || native=$?
    timeout -k 5 "$limit" "${WRAP[@]}" "$WORK/bin/analyzer" trace --json "$here/json" --out "$here/records" -- "$@" \
        >"$here/traced.out" 2>"$here/traced.err" </dev/null || traced=$?
    local side
    for side in native traced; do "$FILTER" <"$here/$side.out" >"$here/$side.filtered"; done
    local complaint=""
    if [ "$native" != "$traced" ]; then complaint="exit code $traced, natively $native"; fi
    if ! cmp -s "$here/native.filtered" "$here/traced.filtered"; then
        complaint="$complaint; other output: $(diff "$here/native.filtered" "$here/traced.filtered" | head -n 20)"
    fi
    if [ ! -s "$here/json" ]; then complaint="$complaint; no result of trace"; fi
    if grep -q 'ld.so: object .* cannot be preloaded' "$here/traced.err"; then complaint="$complaint; the loader complains"; fi
    if [ -n "$complaint" ]; then
        { echo "$complaint"; echo "natively, standard error:"; tail -n 10 "$here/native.err"
          echo "traced, standard error:"; head -n 15 "$here/traced.err"; } | failed "$name"
    else
        pass "$name"
    fi
}

compile() { cc -O1 -g -pthread -o "$WORK/bin/$1" "$ROOT/tests/guest/$1.c" 2>"$WORK/log"; }

# --- containers ---------------------------------------------------------------------------------

# in_container PROFILE: puts a container in front of what `both` runs.
in_container() { WRAP=("$ROOT/tests/containers/in_container.sh" "$1" "$WORK"); }

# in_rootless_container PROFILE: the same of a user without rights, who is made up in a mount namespace of its own. Its root is a
# few folders of this machine: no user without rights may put a layer over all of it.
in_rootless_container() {
    local home="$WORK/rootless"
    local script="
        if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
        mount -t tmpfs none /mnt && mkdir /mnt/upper /mnt/work || exit 125
        mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc || exit 125
        echo 'guest:x:$GUEST:$GUEST::$home:/bin/sh' >>/etc/passwd
        echo 'guest:x:$GUEST:' >>/etc/group
        echo 'guest:200000:65536' >>/etc/subuid
        echo 'guest:200000:65536' >>/etc/subgid
        exec setpriv --reuid=$GUEST --regid=$GUEST --init-groups env -i HOME=$home XDG_RUNTIME_DIR=$home/run LC_ALL=C \
            PATH=/usr/sbin:/usr/bin:/sbin:/bin \"\$@\""
    if [ ! -d "$home" ]; then
        mkdir -p "$home/run" "$home"/root/{usr,etc,tmp,proc,sys,dev,run,var}
        local link
        for link in bin sbin lib lib64; do ln -s "usr/$link" "$home/root/$link"; done
        chown -R "$GUEST:$GUEST" "$home"
    fi
    WRAP=(unshare -m sh -c "$script" sh podman --log-level error run --rm --network none --cgroups disabled
        --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --security-opt "seccomp=$1"
        -v /usr:/usr:ro -v /etc:/etc:ro -v "$WORK:$WORK" --rootfs "$home/root")
}

containers() {
    local name="containers of podman" code=0
    in_container default
    timeout 120 "${WRAP[@]}" /bin/grep -q 'Seccomp:.2' /proc/self/status >"$WORK/log" 2>&1 || code=$?
    if [ "$code" != 0 ]; then
        skipped "$name" "$(tail -n 1 "$WORK/log")"
        return
    fi
    local program kind
    for program in worker many_threads hidden_children refused_calls; do
        compile "$program" || { failed "the C program $program is compiled" <"$WORK/log"; return; }
    done
    for kind in default refusing rootless; do
        if [ "$kind" = rootless ]; then
            # The profile is made by the first container that has it.
            in_container refusing
            "${WRAP[@]}" /bin/true >/dev/null 2>&1 || true
            in_rootless_container "$WORK/refusing.json"
            if ! timeout 120 "${WRAP[@]}" /bin/grep -q 'Seccomp:.2' /proc/self/status >"$WORK/log" 2>&1; then
                skipped "$kind" "no rootless container can be made here: $(tail -n 1 "$WORK/log")"
                continue
            fi
        else
            in_container "$kind"
        fi
        if [ "$kind" = refusing ] && wanted "the profile refuses" && command -v strace >/dev/null; then
            if timeout 120 "${WRAP[@]}" strace -o /dev/null /bin/true >/dev/null 2>&1; then
                echo "strace works in it" | failed "the profile refuses ptrace"
            else
                pass "the profile refuses ptrace"
            fi
        fi
        both "$kind: a shell's pipeline" -- /bin/sh -c 'seq 3000 | grep 7 | sort -r | tail -n 3; echo $$ | wc -l; exit 6'
        both "$kind: threads" -- "$WORK/bin/worker" threads
        both "$kind: 100 threads" -- "$WORK/bin/many_threads" 100
        both "$kind: signals" -- "$WORK/bin/worker" signals
        both "$kind: children" -- "$WORK/bin/worker" children
        both "$kind: a child that drops root" -- "$WORK/bin/hidden_children" uid
        both "$kind: a filter of its own" -- "$WORK/bin/refused_calls" errno-1 310 311
        both "$kind: python3" -- /usr/bin/python3 -c \
            'import multiprocessing as m, threading as t; p = m.Pool(3); r = p.map(abs, range(-50, 50)); p.close(); p.join(); print(sum(r)); a = [t.Thread(target=print, args=(1,)) for _ in range(3)]; [x.start() or x.join() for x in a]'
        both "$kind: gzip" -- /bin/gzip -n -c /etc/services
        if command -v java >/dev/null && command -v javac >/dev/null; then
            if [ ! -d "$WORK/classes" ] && ! javac -d "$WORK/classes" "$ROOT/tests/jvm/Churn.java" >"$WORK/log" 2>&1; then
                failed "Churn.java is compiled" <"$WORK/log"
                continue
            fi
            both "$kind: java -version" 240 -- java -version
            local collector
            for collector in Serial G1; do
                both "$kind: java with threads, $collector" 400 -- java "-XX:+Use${collector}GC" -Xmx256m -cp "$WORK/classes" Churn 20000
            done
        else
            skipped "$kind: java" "no JDK (apt-get install default-jdk-headless)"
        fi
        if command -v node >/dev/null; then
            both "$kind: node" 240 -- "$(command -v node)" -e 'let s = 0; for (let i = 0; i < 1e6; i++) s += i; console.log(s)'
        fi
    done
}

# --- programs with sandboxes of their own --------------------------------------------------------

# Somebody without rights and without a name.
SOMEBODY=(setpriv --reuid=12345 --regid=12345 --clear-groups env -i "HOME=$WORK/home" "PATH=/usr/bin:/bin" LC_ALL=C)

chromium_in_its_sandbox() {
    if ! command -v chromium >/dev/null; then skipped "chromium" "not installed (apt-get install chromium)"; return; fi
    if [ "$(id -u)" != 0 ]; then skipped "chromium" "needs root, to become somebody without rights"; return; fi
    mkdir -p "$WORK/home"
    chown 12345:12345 "$WORK/home"
    echo '<p>hi <script>document.write(6 * 7)</script></p>' >"$WORK/page.html"
    WRAP=("${SOMEBODY[@]}")
    # Without user namespaces it says "No usable sandbox!" natively.
    if ! timeout 120 "${WRAP[@]}" chromium --headless --disable-gpu --dump-dom "file://$WORK/page.html" 2>"$WORK/log" | grep -q 42; then
        skipped "chromium" "does not run natively with its sandbox here: $(grep -m1 -i sandbox "$WORK/log")"
        return
    fi
    both "chromium with its sandbox" 300 -- chromium --headless --disable-gpu --dump-dom "file://$WORK/page.html"
}

# sshd with a login; its port is free, its keys are its own.
login() {
    local side="$1" port="$2" pid code=0
    shift 2
    "$@" /usr/sbin/sshd -D -e -f "$WORK/sshd/config.$port" >"$WORK/sshd/$side.log" 2>&1 &
    pid=$!
    PIDS+=("$pid")
    for _ in $(seq 200); do
        if [ -s "$WORK/sshd/pid.$port" ]; then break; fi
        sleep 0.1
    done
    timeout 60 ssh -F none -p "$port" -i "$WORK/sshd/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
        -o BatchMode=yes "$(id -un)@127.0.0.1" 'echo in; id -u; seq 20000 | wc -l; exit 7' >"$WORK/sshd/$side.out" 2>&1 </dev/null || code=$?
    kill "$(cat "$WORK/sshd/pid.$port" 2>/dev/null)" 2>/dev/null
    local ended=0
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null || ended=$?
    echo "login $code, sshd $ended" >>"$WORK/sshd/$side.out"
}

sshd_with_a_login() {
    local name="sshd with a login"
    wanted "$name" || return 0
    if [ ! -x /usr/sbin/sshd ] || ! command -v ssh >/dev/null; then
        skipped "$name" "not installed (apt-get install openssh-server openssh-client)"
        return
    fi
    if [ "$(id -u)" != 0 ]; then skipped "$name" "needs root"; return; fi
    mkdir -p "$WORK/sshd" /run/sshd
    ssh-keygen -q -t ed25519 -N '' -f "$WORK/sshd/host" && ssh-keygen -q -t ed25519 -N '' -f "$WORK/sshd/key" || return
    local port side
    for side in native traced; do
        port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
        printf '%s\n' "ListenAddress 127.0.0.1:$port" "HostKey $WORK/sshd/host" "AuthorizedKeysFile $WORK/sshd/key.pub" \
            "PidFile $WORK/sshd/pid.$port" "StrictModes no" "UsePAM no" "PermitRootLogin yes" "PasswordAuthentication no" >"$WORK/sshd/config.$port"
        if [ "$side" = native ]; then
            login native "$port" env
            if ! grep -q '^login 7' "$WORK/sshd/native.out"; then
                skipped "$name" "no login natively here: $(tail -n 1 "$WORK/sshd/native.log")"
                return
            fi
        else
            login traced "$port" "$WORK/bin/analyzer" trace --json "$WORK/sshd/json" --
        fi
    done
    if cmp -s "$WORK/sshd/native.out" "$WORK/sshd/traced.out" && [ -s "$WORK/sshd/json" ]; then pass "$name"; else
        { diff "$WORK/sshd/native.out" "$WORK/sshd/traced.out"; tail -n 20 "$WORK/sshd/traced.log"; } | failed "$name"
    fi
}

without_times() { sed -E 's/^[A-Z][a-z]{2} [ 0-9]{2} [0-9:.]+ //' | grep -vE 'Tor .* running on|time|conservatively' || true; }

tor_in_its_sandbox() {
    if ! command -v tor >/dev/null; then skipped "tor" "not installed (apt-get install tor)"; return; fi
    mkdir -p "$WORK/tor"
    local data="$WORK/tor/data" sandbox
    for sandbox in 0 1; do
        printf '%s\n' "DataDirectory $data" "DisableNetwork 1" "SocksPort 0" "Sandbox $sandbox" "Log notice stdout" >"$WORK/tor/rc$sandbox"
    done
    WRAP=()
    FILTER=without_times
    both "tor --verify-config" -- tor --verify-config -f "$WORK/tor/rc0"
    for sandbox in 0 1; do
        both "tor without network, Sandbox $sandbox" -- timeout -s INT 8 tor -f "$WORK/tor/rc$sandbox"
    done
    FILTER=unfiltered
}

man_and_file() {
    WRAP=()
    local page
    page="$(find /usr/share/man/man1 -name 'gzip.1*' -o -name 'xz.1*' 2>/dev/null | sort | head -n 1)"
    # man and file keep to a filter of calls of their own.
    if command -v man >/dev/null && [ -n "$page" ]; then
        both "man" -- man -P cat -l "$page"
        both "man, no sandbox" -- env MAN_DISABLE_SECCOMP=1 man -P cat -l "$page"
    else
        skipped "man" "not installed, or no pages (apt-get install man-db)"
    fi
    if command -v file >/dev/null; then
        both "file" -- file /bin/ls /etc/services "$WORK/bin/libshim.so"
        both "file, no sandbox" -- file -S /bin/ls /etc/services "$WORK/bin/libshim.so"
        both "file of what is packed" -- file -z /usr/share/man/man1
    else
        skipped "file" "not installed (apt-get install file)"
    fi
}

containers
man_and_file
tor_in_its_sandbox
sshd_with_a_login
chromium_in_its_sandbox
exit "$status"
