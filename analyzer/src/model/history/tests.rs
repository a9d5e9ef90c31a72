//! Known histories of a few records.

use records::metric::ENGINE_COUNT;
use records::{
    MAX_GROUP_BYTES, MAX_HEADER_BYTES, METRIC_COUNT, MetricSet, Segment, Stamp, encode_group,
};

use super::*;

/// Thread, flags, event, and what every counter stands at.
type Said = (u32, Flags, Event<'static>, u64);

const NONE: Flags = Flags::NONE;
const START: Event<'static> = Event::ThreadStart { name: b"worker" };

fn history(said: &[Said]) -> History {
    history_with(said, Snapshots::Every(20))
}

fn history_with(said: &[Said], snapshots: Snapshots) -> History {
    let mut bytes = vec![0; MAX_HEADER_BYTES];
    let header = Header { metrics: MetricSet::ALL, ..Header::default() };
    let len = header.encode(&mut bytes).unwrap();
    bytes.truncate(len);
    for (seq, (tid, flags, event, value)) in said.iter().enumerate() {
        let mut buf = [0; MAX_GROUP_BYTES];
        let stamp = Stamp { mono_ns: 10 * (seq as u64 + 1), real_ns: 0 };
        let values = [*value; METRIC_COUNT];
        let len =
            encode_group(&mut buf, seq as u32, stamp, *tid, *flags, event, Some(&values)).unwrap();
        bytes.extend(&buf[..len]);
    }
    let segment = Segment::parse(&bytes).unwrap();
    let mut history = History::new(snapshots);
    history.begin_segment(segment.header());
    segment.groups().for_each(|group| history.take(&group));
    history.finish(true);
    history.settled.tasks.sort_by_key(|task| task.task_id);
    history.settled.threads.sort_by_key(|thread| thread.ordinal);
    history
}

fn task(task_id: i64) -> TaskId<'static> {
    TaskId { task_id, ..TaskId::default() }
}

fn ended(task_id: i64) -> Event<'static> {
    Event::TaskEnd { task: task(task_id), outcome: TaskOutcome::RETURNED }
}

/// The first system-call counter, which is known whatever the engine did.
fn calls(counters: &Counts) -> Option<u64> {
    counters.get(ENGINE_COUNT)
}

#[test]
fn a_thread_number_that_is_used_again_is_another_thread() {
    let history = history(&[
        (7, NONE, START, 0),
        (7, NONE, Event::ThreadEnd, 5),
        // The ticker's late word on the first thread.
        (7, NONE, Event::Snapshot, 4),
        (7, NONE, START, 0),
        (7, NONE, Event::Snapshot, 3),
    ]);
    let seen: Vec<_> = history
        .settled
        .threads
        .iter()
        .map(|thread| (calls(&thread.counters), thread.has_ended))
        .collect();
    assert_eq!(seen, [(Some(5), true), (Some(3), false)]);
    assert_eq!(calls(&history.counters), Some(8));
}

#[test]
fn a_thread_whose_end_is_missing() {
    let history = history(&[
        (7, NONE, START, 0),
        (7, NONE, Event::Snapshot, 9),
        (7, NONE, START, 0),
        (7, NONE, Event::ThreadEnd, 2),
    ]);
    assert_eq!(history.settled.threads.len(), 2);
    assert_eq!(calls(&history.counters), Some(11));
}

#[test]
fn totals_are_the_better_of_two_lower_bounds() {
    let told = history(&[
        (7, NONE, START, 0),
        (7, NONE, Event::Snapshot, 9),
        (0, NONE, Event::Snapshot, 12),
    ]);
    assert_eq!(calls(&told.counters), Some(12), "a thread is missing, the total has it");
    let killed = history(&[
        (0, NONE, Event::Snapshot, 12),
        (7, NONE, START, 0),
        (7, NONE, Event::ThreadEnd, 20),
    ]);
    assert_eq!(calls(&killed.counters), Some(20), "the thread wrote after the last total");
}

#[test]
fn tasks_whose_end_is_missing() {
    let history = history(&[
        (7, NONE, Event::TaskStart(task(1)), 10),
        (7, NONE, Event::TaskStart(task(2)), 30),
        (7, NONE, Event::ThreadEnd, 70),
        (8, NONE, Event::TaskStart(task(3)), 100),
        (8, NONE, Event::Snapshot, 105),
        (9, NONE, ended(4), 50),
    ]);
    let seen: Vec<_> = history
        .settled
        .tasks
        .iter()
        .map(|task| (task.task_id, calls(&task.counters), task.end_ns.is_some()))
        .collect();
    assert_eq!(
        seen,
        [(1, Some(20), true), (2, Some(40), true), (3, Some(5), false), (4, None, true)]
    );
    assert!(history.settled.tasks[0].flags.contains(Flags::CLOSED_BY_NEXT));
    assert!(history.settled.tasks[1].flags.contains(Flags::CLOSED_BY_THREAD_END));
    assert_eq!(history.settled.tasks[0].outcome, TaskOutcome::UNKNOWN);
}

#[test]
fn a_repeated_start_or_end_is_no_second_task() {
    let history = history(&[
        (7, NONE, Event::TaskStart(task(1)), 10),
        (7, Flags::FIRST_OF_SEGMENT, Event::TaskStart(task(1)), 15),
        (7, NONE, ended(1), 30),
        (7, NONE, ended(1), 31),
    ]);
    assert_eq!(history.settled.tasks.len(), 1);
    assert_eq!(calls(&history.settled.tasks[0].counters), Some(20));
}

#[test]
fn coverage_follows_the_flags() {
    let followed = Flags::FOLLOWED;
    let start = |id| Event::TaskStart(task(id));
    let exact = history(&[(7, followed, start(1), 1), (7, followed, ended(1), 4)]);
    assert_eq!(
        (exact.coverage, exact.settled.tasks[0].coverage),
        (Coverage::Exact, Coverage::Exact)
    );
    assert_eq!(exact.settled.tasks[0].counters.get(0), Some(3));
    let released = history(&[(7, followed, start(1), 1), (7, Flags::WAS_RELEASED, ended(1), 4)]);
    assert_eq!(released.settled.tasks[0].coverage, Coverage::Partial);
    assert_eq!(released.settled.tasks[0].counters.get(0), Some(3));
    let native = history(&[(7, NONE, start(1), 1), (7, NONE, ended(1), 4)]);
    assert_eq!((native.coverage, native.settled.tasks[0].counters.get(0)), (Coverage::None, None));
    assert_eq!(calls(&native.settled.tasks[0].counters), Some(3));
    // Task scope: the thread is followed in its tasks only, so the process is not covered.
    let mixed = history(&[
        (7, followed, start(1), 1),
        (7, followed, ended(1), 4),
        (8, NONE, Event::Snapshot, 5),
    ]);
    assert_eq!(
        (mixed.coverage, mixed.settled.tasks[0].coverage),
        (Coverage::Partial, Coverage::Exact)
    );
}

#[test]
fn a_task_with_snapshots_is_cut_without_a_rest() {
    let said = [
        (7, NONE, START, 5),
        (7, NONE, Event::Snapshot, 6),
        (7, NONE, Event::TaskStart(task(1)), 10),
        (7, NONE, Event::Snapshot, 10),
        (7, NONE, Event::Snapshot, 14),
        // Nobody reads a thread's counters in one moment: this one went back, that one is ahead of the end.
        (7, NONE, Event::Snapshot, 13),
        (7, NONE, Event::Snapshot, 31),
        (7, NONE, ended(1), 30),
        (7, NONE, Event::TaskStart(task(2)), 32),
        (7, NONE, ended(2), 40),
        (7, NONE, Event::TaskStart(task(3)), 41),
        (7, NONE, Event::Snapshot, 45),
    ];
    let kept = |snapshots| {
        let history = history_with(&said, snapshots);
        let of = |one: &Snapshot| (one.mono_ns, calls(&one.counters).unwrap());
        history.settled.snapshots.iter().map(of).collect::<Vec<_>>()
    };
    let all = [(20, 6), (30, 10), (40, 10), (50, 14), (80, 30), (110, 41), (120, 45)];
    assert_eq!(kept(Snapshots::All), all);
    // The first one is kept, and those that come so long after.
    assert_eq!(
        kept(Snapshots::Every(20)),
        [(20, 6), (30, 10), (40, 10), (60, 13), (80, 30), (110, 41), (120, 45)]
    );
    assert_eq!(kept(Snapshots::Last), []);
}
