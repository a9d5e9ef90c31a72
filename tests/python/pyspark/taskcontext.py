"""The one class of PySpark that the library looks at, with its own attributes."""


class TaskContext:
    """What a worker knows of the task that it serves."""

    _taskContext = None
    _attemptNumber = None
    _stageId = None
    _taskAttemptId = None
