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
//! task is open ([`crate::count::follow::go_on`]): at the start breakpoint the thread enters the engine inside the JVM's own
//! handling of the breakpoint, at the end breakpoint it leaves it there.
//!
//! Breakpoints vanish when another agent redefines or retransforms the class. [`super::tasks`] notices
//! by the thread's short name that a task came without its breakpoint, and calls
//! [`breakpoints::rearm`].
//!
//! # Limitations
//!
//! - One JVM per process.
//! - Before Java 16 tasks are noticed by their threads' names ([`super::renamed`]).
//! - The class names are Spark's; a vendor who moved `TaskRunner` gets detection by thread name.

use super::{
    application,
    breakpoints::{self, CLASSES, RUNNER},
    environment::{self, go_on},
    jvmti::{self, Callbacks, Env, Event, JavaVm, JniEnv, Location, Method, RawEnv, Reference},
    launcher, renamed, tasks,
};
use crate::{
    base::{file, guarded, tracer},
    process,
};
use core::{
    ffi::{CStr, c_char, c_void},
    ptr::null_mut,
    sync::atomic::{AtomicBool, Ordering},
};
use guest::code_heap;
use records::TaskMethod;

/// The first Java whose compiler does the same for who may set breakpoints (JDK-8227745); see [`renamed`].
const FIRST_WITH_FREE_BREAKPOINTS: i32 = 16;
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
            breakpoints::unavailable("GetEnv", error);
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
        breakpoints::unavailable(step, error);
        environment.dispose();
        return 0;
    }
    environment::publish(vm, environment);
    if has_breakpoints {
        breakpoints::available();
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
        environment::publish(vm, environment);
    }
    0
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
    let maps = file::read_file(c"/proc/self/maps", LONGEST).unwrap_or_default();
    if let Some(heap) = code_heap::reservation(&maps, address) {
        tracer::guard(heap.start, heap.end - heap.start);
    }
}

unsafe extern "C" fn dies(_environment: RawEnv, _jni: JniEnv) -> *mut tracer::Thread {
    environment::withdraw();
    go_on()
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
            breakpoints::note_method(place, method);
        }
        !wanted
    });
    if error == jvmti::OK {
        error = breakpoints::arm(environment, place);
    }
    if error != jvmti::OK {
        breakpoints::unavailable("SetBreakpoint", error);
    }
    if breakpoints::knows_all_methods() {
        stop_waiting(environment);
    }
    0
}

/// No further class is waited for: tasks load thousands of them, and each event is a way out of the engine and back.
fn stop_waiting(environment: Env) {
    let _ = environment.notify(Event::ClassPrepare, false);
}

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
    if !breakpoints::is_of_runner(method) {
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
    if !breakpoints::is_of_runner(happened.method) {
        happened.environment.with_thread_name(happened.thread, tasks::started);
    } else if breakpoints::is_return(happened.location) {
        tasks::returned();
    } else {
        tasks::threw();
    }
    0
}
