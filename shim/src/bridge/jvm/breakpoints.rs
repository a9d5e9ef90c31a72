//! Breakpoints in Spark's methods: set, and set again where they have vanished.

use crate::{
    base::{guarded, link},
    bridge::jvm::{
        environment,
        jvmti::{self, Env, Location, Method},
    },
    process,
    record::threads,
};
use core::{
    ffi::c_void,
    ptr::null_mut,
    sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, Ordering},
};
use guest::bytecode::{self, Exit};
use records::{TaskMethod, notice};

/// The classes that are watched, and the methods in them.
pub const CLASSES: [&[u8]; 3] = [
    b"Lorg/apache/spark/executor/Executor$TaskRunner;",
    b"Lorg/apache/spark/memory/TaskMemoryManager;",
    b"Lorg/apache/spark/scheduler/Task;",
];

/// The place of `TaskRunner` in [`CLASSES`] and of its `run` in [`METHODS`].
pub const RUNNER: usize = 0;

/// The methods that have breakpoints, in the order of [`CLASSES`]; null = not loaded yet.
static METHODS: [AtomicPtr<c_void>; 3] = [const { AtomicPtr::new(null_mut()) }; 3];

/// Places of the return instructions of `TaskRunner.run`, -1 = unused. Spark's versions have one. A
/// method with more would have its further returns taken for throws: such a task's end is then noticed
/// late, and marked so.
static RETURNS: [AtomicI64; 16] = [const { AtomicI64::new(-1) }; 16];

/// Whether breakpoints are set; until then, and where they cannot be, names are all there is.
static BREAKPOINTS: AtomicBool = AtomicBool::new(false);

/// Whether breakpoints are set.
pub fn are_set() -> bool {
    BREAKPOINTS.load(Ordering::Relaxed)
}

/// Notes a method of the class at this place.
pub fn note_method(place: usize, method: Method) {
    METHODS[place].store(method, Ordering::SeqCst);
}

/// Whether all methods are known.
pub fn knows_all_methods() -> bool {
    // SeqCst: of two threads that prepare the last two classes, one sees both.
    METHODS.iter().all(|method| !method.load(Ordering::SeqCst).is_null())
}

/// Whether this is the task runner's method.
pub fn is_of_runner(method: Method) -> bool {
    method == METHODS[RUNNER].load(Ordering::Relaxed)
}

/// Whether the task runner's method returns here.
pub fn is_return(location: Location) -> bool {
    RETURNS.iter().any(|place| place.load(Ordering::Relaxed) == location)
}

/// Breakpoints work from now on.
pub fn available() {
    BREAKPOINTS.store(true, Ordering::Relaxed);
}

/// Breakpoints cannot be set; `step` failed with this JVMTI error.
pub fn unavailable(step: &str, error: i32) {
    BREAKPOINTS.store(false, Ordering::Relaxed);
    process::set_task_method(TaskMethod::THREAD_NAME);
    threads::notice(
        notice::TASK_DETECTION,
        error as u64,
        format_args!("{step}: JVMTI error {error}; tasks are noticed by thread names"),
    );
}

/// The breakpoints were set again after they had vanished; `error` is JVMTI's, 0 if all went well.
fn rearmed(error: i32) {
    if error == 0 {
        threads::notice(notice::TASK_DETECTION, 0, format_args!("breakpoints set again"));
    } else {
        unavailable("SetBreakpoint", error);
    }
}

/// Sets the breakpoints of one method.
pub fn arm(environment: Env, place: usize) -> jvmti::Error {
    let method: Method = METHODS[place].load(Ordering::Relaxed);
    if method.is_null() {
        return jvmti::OK;
    }
    if place != RUNNER {
        return environment.set_breakpoint(method, 0);
    }
    let mut first_error = jvmti::OK;
    let mut returns = RETURNS.iter();
    let understood = environment.with_bytecodes(method, |code| {
        bytecode::exits(code, |at, exit| {
            if exit == Exit::Return
                && let Some(place) = returns.next()
            {
                place.store(at.into(), Ordering::Relaxed);
            }
            let error = environment.set_breakpoint(method, at.into());
            if error != jvmti::OK && first_error == jvmti::OK {
                first_error = error;
            }
        })
    });
    match understood {
        Ok(true) => first_error,
        Ok(false) => UNKNOWN_BYTECODE,
        Err(error) => error,
    }
}

/// Stands in a notice for «libc has no such function».
const NO_FUNCTION: i32 = -1;
/// Stands in a notice for «the method's bytecodes were not understood».
const UNKNOWN_BYTECODE: jvmti::Error = -1;

/// Sets all breakpoints again, on a thread of its own that ends at once. May be called in any state of
/// the JVM: the calling thread only creates the other one.
pub fn rearm() {
    if environment::current().is_none() || REARMING.swap(true, Ordering::AcqRel) {
        return;
    }
    let Some(address) = link::find(c"pthread_create") else {
        return unavailable("pthread_create", NO_FUNCTION);
    };
    // SAFETY: pthread_create(3) has this signature; `Attributes` null means the defaults.
    let create: PthreadCreate = unsafe { core::mem::transmute(address) };
    let mut thread = 0usize;
    // SAFETY: `thread` is written before the call returns; the new thread gets no argument.
    let error = unsafe { create(&raw mut thread, null_mut(), rearm_thread, null_mut()) };
    if error != 0 {
        REARMING.store(false, Ordering::Release);
        return unavailable("pthread_create", error);
    }
    if let Some(address) = link::find(c"pthread_detach") {
        // SAFETY: pthread_detach(3) has this signature, and the thread was created joinable just now.
        unsafe {
            core::mem::transmute::<usize, unsafe extern "C" fn(usize) -> i32>(address)(thread)
        };
    }
}

static REARMING: AtomicBool = AtomicBool::new(false);

type PthreadCreate = unsafe extern "C" fn(
    *mut usize,
    *mut c_void,
    unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    *mut c_void,
) -> i32;

unsafe extern "C" fn rearm_thread(_argument: *mut c_void) -> *mut c_void {
    // SAFETY: `rearm_attached` takes no argument.
    unsafe { guarded::guarded(0, rearm_attached) };
    REARMING.store(false, Ordering::Release);
    null_mut()
}

unsafe extern "C" fn rearm_attached(_argument: usize) -> usize {
    let vm = environment::vm();
    // SAFETY: the JVM that called Agent_OnLoad, asked to attach this new thread.
    let attached = unsafe { jvmti::attach_as_daemon(vm, c"sparkanalyzer") };
    if attached != jvmti::OK {
        unavailable("AttachCurrentThreadAsDaemon", attached);
        return 0;
    }
    if let Some(environment) = environment::current() {
        let errors = (0..METHODS.len()).map(|place| arm(environment, place));
        let error =
            errors.fold(jvmti::OK, |first, next| if first == jvmti::OK { next } else { first });
        rearmed(error);
    }
    // SAFETY: attached above, and no Java frame is on this thread's stack.
    unsafe { jvmti::detach(vm) };
    0
}
