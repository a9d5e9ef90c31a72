#!/usr/bin/env bash
# Runs a command in a container of podman whose root is this machine's, under a layer that is thrown away; it has no network.
#   tests/containers/in_container.sh PROFILE FOLDER COMMAND...
# PROFILE: default (podman's seccomp profile) or refusing (the same, that refuses process_vm_readv, process_vm_writev, ptrace and
# perf_event_open as well). FOLDER is seen and may be written to inside; the container's storage is made in it.
# Exit code: the command's; 125 where no container can be made, 77 where podman or its profile is missing (standard error says why).
set -euo pipefail
kind="$1" folder="$2"
shift 2
REFUSED='process_vm_readv process_vm_writev ptrace perf_event_open'
command -v podman >/dev/null || { echo "podman is not installed (apt-get install podman crun)" >&2; exit 77; }
[ "$(id -u)" = 0 ] || { echo "needs root, for this machine's root as the container's" >&2; exit 77; }
profile="$folder/$kind.json"
if [ ! -f "$profile" ]; then
    default=/usr/share/containers/seccomp.json
    [ -f "$default" ] || default=/etc/containers/seccomp.json
    [ -f "$default" ] || { echo "no default profile in /usr/share/containers" >&2; exit 77; }
    if [ "$kind" = refusing ]; then
        python3 - "$default" "$profile" "$REFUSED" <<'PYTHON'
import json, sys
profile = json.load(open(sys.argv[1]))
refused = sys.argv[3].split()
for rule in profile["syscalls"]:
    rule["names"] = [name for name in rule.get("names", [rule.get("name")]) if name not in refused]
profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"]]
profile["syscalls"].append({"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": []})
json.dump(profile, open(sys.argv[2], "w"))
PYTHON
    else
        cp "$default" "$profile"
    fi
fi
# crun refuses a hybrid of both cgroup versions; a mount namespace without the second one is a plain first one.
script='if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec "$@"'
exec unshare -m sh -c "$script" sh podman --root "$folder/storage" --runroot "$folder/runroot" --log-level error run --rm \
    --network none --cgroups disabled --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 \
    --security-opt "seccomp=$profile" -v "$folder:$folder" --rootfs /:O "$@"
