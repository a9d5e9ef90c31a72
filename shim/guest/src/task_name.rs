//! What the name of a Spark executor's pool thread says about the task that runs on it.
//!
//! Source: `Executor.TaskRunner.threadName` in Spark: since 3.0 `Executor task launch worker for
//! task <index>.<attempt> in stage <stage>.<stage attempt> (TID <tid>)`, before that `Executor task
//! launch worker for task <tid>`. Spark 4 names a thread whose task has ended `Executor task idle
//! worker`; 3.x leaves the name of the last task. Linux keeps 15 bytes of a thread's name, so what
//! `pthread_setname_np` is given tells only *that* a task starts or ends ([`PoolName`]).

/// The identity of a task attempt, as far as a thread's name tells it; -1 = not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskName {
    /// Stage id.
    pub stage: i32,
    /// Attempt of the stage.
    pub stage_attempt: i32,
    /// Index of the task in its stage.
    pub index: i32,
    /// Attempt of the task.
    pub attempt: i32,
    /// Spark's TID.
    pub task_id: i64,
}

const BEFORE_TASK: &[u8] = b"Executor task launch worker for task ";

/// Parses the full Java name of a thread; `None` for every thread that runs no task.
pub fn parse(name: &[u8]) -> Option<TaskName> {
    let rest = name.strip_prefix(BEFORE_TASK)?;
    let (first, rest) = number(rest)?;
    if rest.is_empty() {
        return Some(TaskName {
            stage: -1,
            stage_attempt: -1,
            index: -1,
            attempt: -1,
            task_id: first,
        });
    }
    let (attempt, rest) = number(rest.strip_prefix(b".")?)?;
    let (stage, rest) = number(rest.strip_prefix(b" in stage ")?)?;
    let (stage_attempt, rest) = number(rest.strip_prefix(b".")?)?;
    let (task_id, rest) = number(rest.strip_prefix(b" (TID ")?)?;
    if rest != b")" {
        return None;
    }
    Some(TaskName {
        stage: stage.try_into().ok()?,
        stage_attempt: stage_attempt.try_into().ok()?,
        index: first.try_into().ok()?,
        attempt: attempt.try_into().ok()?,
        task_id,
    })
}

/// A decimal number without a sign at the start, and what follows it.
fn number(text: &[u8]) -> Option<(i64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let mut value = 0i64;
    for digit in &text[..digits] {
        value = value.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
    }
    Some((value, &text[digits..]))
}

/// What a new short name (15 bytes at most) of a pool thread announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolName {
    /// `Executor task l…`: a task starts, or the thread is new and a task will follow.
    Launch,
    /// `Executor task i…`: the task is over (Spark 4).
    Idle,
}

/// Classifies the name given to `pthread_setname_np`; `None` for other threads.
pub fn pool_name(short: &[u8]) -> Option<PoolName> {
    match short.strip_prefix(b"Executor task ")?.first()? {
        b'l' => Some(PoolName::Launch),
        b'i' => Some(PoolName::Idle),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_spark_3() {
        assert_eq!(
            parse(b"Executor task launch worker for task 12.1 in stage 345.2 (TID 6789012345)"),
            Some(TaskName {
                stage: 345,
                stage_attempt: 2,
                index: 12,
                attempt: 1,
                task_id: 6_789_012_345
            })
        );
    }

    #[test]
    fn before_spark_3_only_the_tid_is_known() {
        assert_eq!(
            parse(b"Executor task launch worker for task 17"),
            Some(TaskName { stage: -1, stage_attempt: -1, index: -1, attempt: -1, task_id: 17 })
        );
    }

    #[test]
    fn other_names_are_no_tasks() {
        for name in [
            &b""[..],
            b"main",
            b"Executor task launch worker-0",
            b"Executor task idle worker",
            b"Executor task launch worker for task ",
            b"Executor task launch worker for task 1.",
            b"Executor task launch worker for task 1.0 in stage 2",
            b"Executor task launch worker for task 1.0 in stage 2.0 (TID 3",
            b"Executor task launch worker for task 1.0 in stage 2.0 (TID 3) x",
            b"Executor task launch worker for task 1.0 in stage 2.0 (TID 99999999999999999999)",
            b"Executor task launch worker for task 1.0 in stage 2147483648.0 (TID 3)",
            b"Executor task launch worker for task -1.0 in stage 2.0 (TID 3)",
        ] {
            assert_eq!(parse(name), None, "{:?}", core::str::from_utf8(name));
        }
    }

    #[test]
    fn short_names() {
        assert_eq!(pool_name(b"Executor task l"), Some(PoolName::Launch));
        assert_eq!(pool_name(b"Executor task i"), Some(PoolName::Idle));
        assert_eq!(pool_name(b"Executor task "), None);
        assert_eq!(pool_name(b"Executor task r"), None);
        assert_eq!(pool_name(b"C2 CompilerThre"), None);
    }
}
