"""A network of the suite's own: loopback alone, with the nodes' names, for this process and all that it starts.

Spark's shuffle service listens on every address of its machine and has no setting for that. In a network that has
nothing but loopback it is reached from nowhere else, every port is free, and two suites do not meet. The names of the
nodes stand in a hosts file that this process and its children see in the place of /etc/hosts.
"""

import ctypes
import fcntl
import os
import pathlib
import socket
import struct

# <linux/sched.h>, <linux/mount.h>, <linux/sockios.h>, <linux/if.h>
CLONE_NEWNS = 0x0002_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWNET = 0x4000_0000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x4_0000
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 1

_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """This machine gives no namespaces to us; the message says which call failed."""


def _call(name, *arguments):
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise Refused(f"{name}: {os.strerror(number)}")


def enter(nodes, directory):
    """Leaves the machine's network for good. `nodes` are (address, name); the hosts file is written to `directory`."""
    wanted = CLONE_NEWNET | CLONE_NEWNS
    user, group = os.getuid(), os.getgid()
    if user != 0:
        wanted |= CLONE_NEWUSER
    _call("unshare", wanted)
    if user != 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            pathlib.Path("/proc/self", name).write_text(text, encoding="ascii")
    _loopback_up()
    hosts = pathlib.Path(directory) / "hosts"
    # What an address is called is the first name of its first line.
    lines = [f"{address} {name}\n" for address, name in nodes]
    lines.append(f"{nodes[0][0]} localhost {socket.gethostname()}\n")
    hosts.write_text("".join(lines), encoding="utf-8")
    _call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    _call("mount", str(hosts).encode(), b"/etc/hosts", None, MS_BIND, None)


def _loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        # struct ifreq: the interface's name in 16 bytes, then its flags.
        asked = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sh22x", b"lo", 0))
        flags = struct.unpack("16sh22x", asked)[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))
