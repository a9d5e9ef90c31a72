//! The JVM's side of the bridge: `Agent_OnLoad`, breakpoints in Spark's methods, their events.
//!
//! # Design
//!
//! | breakpoint | meaning |
//! |---|---|
//! | first bytecode of `TaskMemoryManager.<init>` | a task starts; it is still to be deserialised |
//! | first bytecode of `scheduler.Task.run` | a task starts, unless it was noticed before |
//! | every return of `Executor$TaskRunner.run` | the task has ended |
//! | every `athrow` of it | the task may end: most are caught in the same method |
//!
//! `TaskRunner.run` names its thread after the task, then creates the task's memory manager, then
//! deserialises the task. Hash relations create memory managers inside a task as well: the thread's name
//! then says the task that is open already. All methods run once per task, so it does not matter that
//! HotSpot leaves a method with breakpoints to the interpreter. The thread's Java name is the one thing
//! that is read (5 us per task); NotifyFramePop would force the interpreter on the whole task and
//! GetLocalObject takes 0.8 ms.
//!
//! Each callback ends following of its thread, if it was followed, and follows again from its return address on, if a
//! task is open ([`tracer::go_on`]): at the start breakpoint the thread enters the engine inside the JVM's own
//! handling of the breakpoint, at the end breakpoint it leaves it there.
//!
//! Breakpoints vanish when another agent redefines or retransforms the class. [`super::tasks`] notices
//! by the thread's short name that a task came without its breakpoint, and calls [`rearm`].
//!
//! # Limitations
//!
//! - One JVM per process.
//! - Before Java 16 tasks are noticed by their threads' names ([`super::renamed`]).
//! - The class names are Spark's; a vendor who moved `TaskRunner` gets detection by thread name.

use super::{
    application,
    jvmti::{self, Callbacks, Env, Event, JavaVm, JniEnv, Location, Method, RawEnv, Reference},
    launcher, renamed, tasks,
};
use crate::{
    base::{guarded, link, sys},
    client::tracer,
    entry::process,
};
use core::{
    ffi::{CStr, c_char, c_void},
    ptr::null_mut,
    sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, Ordering},
};
use guest::{
    bytecode::{self, Exit},
    code_heap,
};
use records::TaskMethod;

/// The classes that are watched, and the methods in them.
const CLASSES: [&[u8]; 3] = [
    b"Lorg/apache/spark/executor/Executor$TaskRunner;",
    b"Lorg/apache/spark/memory/TaskMemoryManager;",
    b"Lorg/apache/spark/scheduler/Task;",
];
/// The first Java whose compiler does the same for who may set breakpoints (JDK-8227745); see [`renamed`].
const FIRST_WITH_FREE_BREAKPOINTS: i32 = 16;
/// The place of `TaskRunner` in [`CLASSES`] and of its `run` in [`METHODS`].
const RUNNER: usize = 0;

/// The methods that have breakpoints, in the order of [`CLASSES`]; null = not loaded yet.
static METHODS: [AtomicPtr<c_void>; 3] = [const { AtomicPtr::new(null_mut()) }; 3];
/// The JVM's environment while breakpoints may be set; null before `Agent_OnLoad` and after VM death.
static ENVIRONMENT: AtomicPtr<*const jvmti::Table> = AtomicPtr::new(null_mut());
/// The JVM, for attaching a thread.
static VM: AtomicPtr<*const [usize; 8]> = AtomicPtr::new(null_mut());

/// Places of the return instructions of `TaskRunner.run`, -1 = unused. Spark's versions have one. A
/// method with more would have its further returns taken for throws: such a task's end is then noticed
/// late, and marked so.
static RETURNS: [AtomicI64; 16] = [const { AtomicI64::new(-1) }; 16];

/// Called by the JVM when it starts (JVMTI specification, «Agent Start-Up»). Never fails: a JVM ends
/// when its agent does.
#[unsafe(no_mangle)]
unsafe extern "C" fn Agent_OnLoad(
    vm: JavaVm,
    _options: *mut c_char,
    _reserved: *mut c_void,
) -> i32 {
    // A second instance of this library, or a JVM in a process that is not counted: stay passive.
    if launcher::inserted() && !guarded::switched_off() {
        // SAFETY: `load` takes the JVM's pointer.
        unsafe { guarded::guarded(vm as usize, load) };
    }
    jvmti::OK
}

unsafe extern "C" fn load(vm: usize) -> usize {
    let vm = vm as JavaVm;
    // SAFETY: the JVM's own pointer, on the thread that it calls Agent_OnLoad on.
    let environment = match unsafe { Env::new(vm) } {
        Ok(environment) => environment,
        Err(error) => {
            tasks::breakpoints_unavailable("GetEnv", error);
            return 0;
        }
    };
    if !process::runs_tasks() {
        return code_alone(vm, environment);
    }
    let mut callbacks = Callbacks::NONE;
    callbacks.vm_death = Some(vm_death);
    callbacks.class_prepare = Some(class_prepare);
    callbacks.breakpoint = Some(breakpoint);
    callbacks.dynamic_code_generated = Some(generated);
    let has_breakpoints = environment.major_version() >= FIRST_WITH_FREE_BREAKPOINTS;
    let if_wanted =
        |step: &dyn Fn() -> jvmti::Error| if has_breakpoints { step() } else { jvmti::OK };
    let steps = [
        ("AddCapabilities", if_wanted(&|| environment.add_capabilities())),
        ("SetEventCallbacks", environment.set_callbacks(&callbacks)),
        ("SetEventNotificationMode", if_wanted(&|| environment.notify(Event::Breakpoint, true))),
        ("SetEventNotificationMode", environment.notify(Event::ClassPrepare, true)),
        ("SetEventNotificationMode", environment.notify(Event::VmDeath, true)),
    ];
    if let Some((step, error)) = steps.into_iter().find(|(_, error)| *error != jvmti::OK) {
        tasks::breakpoints_unavailable(step, error);
        environment.dispose();
        return 0;
    }
    publish(vm, environment);
    if has_breakpoints {
        tasks::breakpoints_available();
    } else {
        process::set_task_method(TaskMethod::THREAD_NAME);
    }
    // Of use, not of need: without it these parts are compared like all code that stores can change.
    let _ = environment.notify(Event::DynamicCodeGenerated, true);
    0
}

/// In a JVM without tasks: what it generates is of use, and nothing is of need.
fn code_alone(vm: JavaVm, environment: Env) -> usize {
    let mut callbacks = Callbacks::NONE;
    callbacks.vm_death = Some(vm_death);
    callbacks.dynamic_code_generated = Some(generated);
    let steps = [
        environment.set_callbacks(&callbacks),
        environment.notify(Event::VmDeath, true),
        environment.notify(Event::DynamicCodeGenerated, true),
    ];
    if steps.iter().any(|&error| error != jvmti::OK) {
        environment.dispose();
    } else {
        publish(vm, environment);
    }
    0
}

fn publish(vm: JavaVm, environment: Env) {
    VM.store(vm, Ordering::Relaxed);
    ENVIRONMENT.store(environment.as_raw(), Ordering::Release);
}

// What the JVM calls.
tracer::entry!(vm_death, dies, (RawEnv, JniEnv));
tracer::entry!(class_prepare, prepares, (RawEnv, JniEnv, Reference, Reference));
tracer::entry!(generated, generates, (RawEnv, *const c_char, *const c_void, i32));
tracer::entry!(breakpoint, breaks, (RawEnv, JniEnv, Reference, Method, Location));

/// Whether the JVM calls this address: following ends there.
pub fn is_callback(address: usize) -> bool {
    let generated = generated as *const ();
    [vm_death as *const (), class_prepare as *const (), breakpoint as *const (), generated]
        .iter()
        .any(|&callback| callback as usize == address)
        || renamed::is_callback(address)
}

/// The thread to follow when a callback returns.
pub fn go_on() -> *mut tracer::Thread {
    unsafe extern "C" fn body(_: usize) -> usize {
        tracer::go_on() as usize
    }
    // SAFETY: `body` ignores its argument.
    match unsafe { guarded::guarded(0, body) } {
        guarded::FAILED => null_mut(),
        thread => thread as *mut tracer::Thread,
    }
}

/// The parts of HotSpot that are generated once, at the start, and never patched: the interpreter, in which a task
/// begins, and the copying and checksum routines.
const SETTLED: [&[u8]; 2] = [b"Interpreter", b"StubRoutines"];

unsafe extern "C" fn generates(
    _environment: RawEnv,
    name: *const c_char,
    address: *const c_void,
    length: i32,
) -> *mut tracer::Thread {
    if guarded::switched_off() || name.is_null() || length <= 0 {
        return null_mut();
    }
    // SAFETY: the JVM's own name of what it generated.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    if SETTLED.iter().any(|settled| name.starts_with(settled)) {
        let mut place = [address as usize, length as usize];
        unsafe extern "C" fn body(place: usize) -> usize {
            // SAFETY: the caller's own array.
            let [address, length] = unsafe { *(place as *const [usize; 2]) };
            tracer::settle(address as u64, length as u64);
            guard_code_heap(address as u64);
            0
        }
        // SAFETY: `body` takes this array.
        unsafe { guarded::guarded((&raw mut place) as usize, body) };
    }
    go_on()
}

/// Compiled code is installed, patched and collected by the JVM's own C++ code, on threads that do not block SIGSEGV
/// (its null checks and safepoint polls need it), but for its handlers: it is compared only while somebody writes to it.
fn guard_code_heap(address: u64) {
    /// A JVM has some hundred mappings when it generates its interpreter.
    const LONGEST: usize = 4 << 20;
    static KNOWN: AtomicBool = AtomicBool::new(false);
    if KNOWN.swap(true, Ordering::Relaxed) {
        return;
    }
    let maps = sys::read_file(c"/proc/self/maps", LONGEST).unwrap_or_default();
    if let Some(heap) = code_heap::reservation(&maps, address) {
        tracer::guard(heap.start, heap.end - heap.start);
    }
}

unsafe extern "C" fn dies(_environment: RawEnv, _jni: JniEnv) -> *mut tracer::Thread {
    ENVIRONMENT.store(null_mut(), Ordering::Release);
    go_on()
}

/// Hands the calling thread's Java name to `use_name`. On a thread of the JVM that executes native code.
pub fn with_own_name(use_name: impl FnOnce(&[u8])) {
    let environment = ENVIRONMENT.load(Ordering::Acquire);
    if !environment.is_null() {
        Env::from_raw(environment).with_thread_name(null_mut(), use_name);
    }
}

/// A callback's arguments, handed through [`guarded::guarded`].
struct Happened {
    environment: Env,
    jni: JniEnv,
    thread: Reference,
    class: Reference,
    method: Method,
    location: Location,
}

unsafe extern "C" fn prepares(
    environment: RawEnv,
    jni: JniEnv,
    thread: Reference,
    class: Reference,
) -> *mut tracer::Thread {
    if guarded::switched_off() {
        return null_mut();
    }
    let mut happened = Happened {
        environment: Env::from_raw(environment),
        jni,
        thread,
        class,
        method: null_mut(),
        location: 0,
    };
    // SAFETY: `prepared` takes this structure.
    unsafe { guarded::guarded((&raw mut happened) as usize, prepared) };
    go_on()
}

unsafe extern "C" fn prepared(happened: usize) -> usize {
    // SAFETY: `prepares` passes its own structure.
    let happened = unsafe { &*(happened as *const Happened) };
    let environment = happened.environment;
    let Some(place) = environment.class_is(happened.class, &CLASSES) else { return 0 };
    if place == RUNNER {
        // What is to be known was generated long before.
        let _ = environment.notify(Event::DynamicCodeGenerated, false);
    }
    if environment.major_version() < FIRST_WITH_FREE_BREAKPOINTS {
        if place == RUNNER && renamed::bind(happened.jni) {
            tasks::full_names_available();
            stop_waiting(environment);
        }
        return 0;
    }
    let mut error = environment.each_method(happened.class, |method, name, signature| {
        let wanted = match place {
            RUNNER => name == b"run" && signature == b"()V",
            1 => name == b"<init>",
            _ => name == b"run",
        };
        if wanted {
            METHODS[place].store(method, Ordering::SeqCst);
        }
        !wanted
    });
    if error == jvmti::OK {
        error = arm(environment, place);
    }
    if error != jvmti::OK {
        tasks::breakpoints_unavailable("SetBreakpoint", error);
    }
    // SeqCst: of two threads that prepare the last two classes, one sees both.
    if METHODS.iter().all(|method| !method.load(Ordering::SeqCst).is_null()) {
        stop_waiting(environment);
    }
    0
}

/// No further class is waited for: tasks load thousands of them, and each event is a way out of the engine and back.
fn stop_waiting(environment: Env) {
    let _ = environment.notify(Event::ClassPrepare, false);
}

/// Sets the breakpoints of one method.
fn arm(environment: Env, place: usize) -> jvmti::Error {
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

/// Stands in a notice for «the method's bytecodes were not understood».
const UNKNOWN_BYTECODE: jvmti::Error = -1;

unsafe extern "C" fn breaks(
    environment: RawEnv,
    jni: JniEnv,
    thread: Reference,
    method: Method,
    location: Location,
) -> *mut tracer::Thread {
    if guarded::switched_off() {
        return null_mut();
    }
    if method != METHODS[RUNNER].load(Ordering::Relaxed) {
        application::ask(jni);
    }
    let mut happened = Happened {
        environment: Env::from_raw(environment),
        jni,
        thread,
        class: null_mut(),
        method,
        location,
    };
    // SAFETY: `reached` takes this structure.
    unsafe { guarded::guarded((&raw mut happened) as usize, reached) };
    go_on()
}

unsafe extern "C" fn reached(happened: usize) -> usize {
    // SAFETY: `breaks` passes its own structure.
    let happened = unsafe { &*(happened as *const Happened) };
    if happened.method != METHODS[RUNNER].load(Ordering::Relaxed) {
        happened.environment.with_thread_name(happened.thread, tasks::started);
    } else if RETURNS.iter().any(|place| place.load(Ordering::Relaxed) == happened.location) {
        tasks::returned();
    } else {
        tasks::threw();
    }
    0
}

/// Sets all breakpoints again, on a thread of its own that ends at once. May be called in any state of
/// the JVM: the calling thread only creates the other one.
pub fn rearm() {
    if ENVIRONMENT.load(Ordering::Acquire).is_null() || REARMING.swap(true, Ordering::AcqRel) {
        return;
    }
    let Some(address) = link::find(c"pthread_create") else { return };
    // SAFETY: pthread_create(3) has this signature; `Attributes` null means the defaults.
    let create: PthreadCreate = unsafe { core::mem::transmute(address) };
    let mut thread = 0usize;
    // SAFETY: `thread` is written before the call returns; the new thread gets no argument.
    let error = unsafe { create(&raw mut thread, null_mut(), rearm_thread, null_mut()) };
    if error != 0 {
        REARMING.store(false, Ordering::Release);
        return;
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
    let vm = VM.load(Ordering::Relaxed);
    // SAFETY: the JVM that called Agent_OnLoad, asked to attach this new thread.
    let attached = unsafe { jvmti::attach_as_daemon(vm, c"sparkanalyzer") };
    let environment = ENVIRONMENT.load(Ordering::Acquire);
    if attached != jvmti::OK {
        return 0;
    }
    if !environment.is_null() {
        let errors = (0..METHODS.len()).map(|place| arm(Env::from_raw(environment), place));
        let error =
            errors.fold(jvmti::OK, |first, next| if first == jvmti::OK { next } else { first });
        tasks::rearmed(error);
    }
    // SAFETY: attached above, and no Java frame is on this thread's stack.
    unsafe { jvmti::detach(vm) };
    0
}
