# One thread in /proc/self/status, and no warning of CPython 3.12 that the process that forks is multi-threaded; prints 3, squares, ['1'].
import os
import sys

if sys.version_info >= (3, 12):
    import warnings

    warnings.simplefilter("error")


def square(x):
    return x * x


if __name__ == "__main__":
    child = os.fork()
    if child == 0:
        os._exit(3)
    print(os.waitpid(child, 0)[1] >> 8)
    workers = []
    for n in range(3):
        child = os.fork()
        if child == 0:
            os._exit(square(n))
        workers.append(child)
    print([os.waitpid(child, 0)[1] >> 8 for child in workers])
    with open("/proc/self/status") as status:
        print([line.split()[1] for line in status if line.startswith("Threads")])
