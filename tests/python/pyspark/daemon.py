"""A worker of the shape of PySpark's (its daemon forks, files over copies of a socket, one task after the other) whose
tasks are loops of known length, and what else a process does meanwhile. Spark's own is in `tests/spark`.

    python3 -m pyspark.daemon WAY TASKS ROUNDS

A `way` other than `loop` does something besides: `events` raises many audit events in each task, `thread` and `fork` do
the loop in another thread or process, `socket` opens and closes a connection in the middle, `error` leaves an exception
pending while unpickling, `killed` never comes back from the last task.
"""

import gc
import io
import os
import pickle
import signal
import socket
import struct
import sys
import threading
from itertools import repeat

STEPS = tuple((place * 7 + 3) % 251 for place in range(251))


def loop(rounds):
    """Makes no object: its instructions depend on nothing but `rounds`."""
    place = 0
    for _ in repeat(None, rounds):
        place = STEPS[place]
    return place


class Unwilling(pickle.Unpickler):
    """Whose find_class is asked while an exception is handled."""

    def find_class(self, module, name):
        try:
            raise KeyError(name)
        except KeyError:
            return super().find_class(module, name)


def in_thread(rounds):
    """The loop in a thread of its own."""
    worker = threading.Thread(target=loop, args=(rounds,))
    worker.start()
    worker.join()
    return loop(0)


def in_child(rounds):
    """The loop in a child of fork."""
    child = os.fork()
    if child == 0:
        loop(rounds)
        os._exit(0)
    os.waitpid(child, 0)
    return loop(0)


def with_socket(rounds):
    """A connection in the middle of the loop."""
    one, other = socket.socketpair()
    one.sendall(b"question")
    other.recv(8)
    other.close()
    one.recv(8)
    one.close()
    return loop(rounds)


def with_events(rounds):
    """Audit events of all kinds, which are nobody's business."""
    for _ in repeat(None, 300):
        pickle.loads(pickle.dumps(Unwilling))
        sys._getframe()
        compile("1", "<none>", "eval")
    return loop(rounds)


WAYS = {"loop": loop, "thread": in_thread, "fork": in_child, "socket": with_socket, "events": with_events}


def serve(connection):
    """One task, as `pyspark.worker.main` has it: its context, its function, its results."""
    infile = os.fdopen(os.dup(connection.fileno()), "rb", 65536)
    outfile = os.fdopen(os.dup(connection.fileno()), "wb", 65536)
    stage, attempt, task_id, rounds, length = struct.unpack("!iiqqi", infile.read(28))
    from pyspark.taskcontext import TaskContext

    context = TaskContext._taskContext = TaskContext()
    context._stageId, context._attemptNumber, context._taskAttemptId = stage, attempt, task_id
    command = infile.read(length)
    way = Unwilling(io.BytesIO(command)).load()
    answer = way(rounds)
    TaskContext._taskContext = None
    outfile.write(struct.pack("!i", answer))
    outfile.flush()
    is_last = infile.read(4) != b"done"
    outfile.write(b"left")
    outfile.flush()
    return not is_last


def hang(_rounds):
    """Until somebody kills it."""
    loop(1000)
    signal.pause()


def manager(way, tasks, rounds):
    """The daemon and what stands for the executor: sends the tasks, one after the other."""
    ours, theirs = socket.socketpair()
    worker = os.fork()
    if worker == 0:
        ours.close()
        while serve(theirs):
            gc.collect()
        os._exit(0)
    theirs.close()
    for task in range(tasks):
        function = hang if way == "killed" and task == tasks - 1 else WAYS.get(way, loop)
        command = pickle.dumps(function)
        ours.sendall(struct.pack("!iiqqi", 5, 0, 70 + task, rounds * (1 + task % 3), len(command)) + command)
        if function is hang:
            while open(f"/proc/{worker}/stat", encoding="utf-8").read().rpartition(")")[2].split()[0] != "S":
                pass
            os.kill(worker, signal.SIGKILL)
            break
        print(struct.unpack("!i", ours.recv(4))[0], flush=True)
        ours.sendall(b"done" if task < tasks - 1 else b"stop")
        ours.recv(4)
    os.waitpid(worker, 0)


if __name__ == "__main__":
    # What is unpickled names this module as others import it.
    from pyspark import daemon

    daemon.manager(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
