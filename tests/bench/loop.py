"""A CPython loop over integers, a dictionary and strings; the argument is its length, some 0.5 s each."""

import sys


def work(n):
    total, seen = 0, {}
    for i in range(n):
        total = (total * 31 + i) % 1000003
        seen[total % 4096] = seen.get(total % 4096, 0) + 1
        if i % 7 == 0:
            total += len(str(i))
    return total, len(seen)


print(work(2000000 * int(sys.argv[1])))
