//! Tasks noticed by the name that their thread gives itself, on JVMs where breakpoints cost too much.
//!
//! # Design
//!
//! Before Java 16 HotSpot switches escape analysis off in the whole JVM for whoever may set breakpoints (JDK-8227745).
//! `TaskRunner.run` names its thread after the task before anything else, by `Thread.setName`, which ends in the
//! native method `Thread.setNativeName`. When `TaskRunner` is loaded that method is bound to a function here, which
//! looks at the thread's Java name and goes on to HotSpot's own.
//!
//! # Limitations
//!
//! The end of a task is not seen: what comes next on its thread closes it, another task or the thread's end.

use super::{environment, jvmti::JniEnv, jvmti::Reference, tasks};
use crate::{
    base::{guarded, link, tracer},
    count::follow,
};
use core::{
    ffi::{CStr, c_char, c_void},
    mem::transmute,
    sync::atomic::{AtomicUsize, Ordering},
};

/// HotSpot's own function of this method.
const NEXT_NAME: &CStr = c"JVM_SetNativeThreadName";
/// Its address; 0 until [`bind`] found it.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// `JNINativeMethod`.
#[repr(C)]
struct NativeMethod {
    name: *const c_char,
    signature: *const c_char,
    function: *mut c_void,
}

/// Binds `Thread.setNativeName`; whether that worked.
pub fn bind(jni: JniEnv) -> bool {
    // JNI specification, chapter 4: places in the function table.
    const FIND_CLASS: usize = 6;
    const EXCEPTION_CLEAR: usize = 17;
    const REGISTER_NATIVES: usize = 215;
    let Some(next) = link::find(NEXT_NAME) else { return false };
    NEXT.store(next, Ordering::Release);
    let method = NativeMethod {
        name: c"setNativeName".as_ptr(),
        signature: c"(Ljava/lang/String;)V".as_ptr(),
        function: set_native_name as *mut c_void,
    };
    // SAFETY: the JVM's own function table for this thread, functions of these types at these places; the
    // method's parameters are those of `set_native_name`. A pending exception is not left behind.
    unsafe {
        let table = *jni.cast::<*const usize>();
        let find_class: unsafe extern "C" fn(JniEnv, *const c_char) -> Reference =
            transmute(*table.add(FIND_CLASS));
        let clear: unsafe extern "C" fn(JniEnv) = transmute(*table.add(EXCEPTION_CLEAR));
        let register: unsafe extern "C" fn(JniEnv, Reference, *const NativeMethod, i32) -> i32 =
            transmute(*table.add(REGISTER_NATIVES));
        let class = find_class(jni, c"java/lang/Thread".as_ptr());
        let is_bound = !class.is_null() && register(jni, class, &raw const method, 1) == 0;
        if !is_bound {
            clear(jni);
        }
        is_bound
    }
}

tracer::entry!(set_native_name, names, (JniEnv, Reference, Reference));

/// Whether this is the address of the function that the JVM calls.
pub fn is_callback(address: usize) -> bool {
    address == set_native_name as *const () as usize
}

unsafe extern "C" fn names(jni: JniEnv, thread: Reference, name: Reference) -> *mut tracer::Thread {
    let next = NEXT.load(Ordering::Acquire);
    // It calls pthread_setname_np, which is also a function of this library's at which following may begin.
    follow::natively(|| {
        // SAFETY: set before the method was bound to this; HotSpot's function takes the method's own arguments
        // (`jvm.h`).
        unsafe {
            let next: unsafe extern "C" fn(JniEnv, Reference, Reference) = transmute(next);
            next(jni, thread, name);
        }
    });
    if !guarded::switched_off() {
        // SAFETY: `named` ignores its argument.
        unsafe { guarded::guarded(0, named) };
    }
    environment::go_on()
}

unsafe extern "C" fn named(_argument: usize) -> usize {
    environment::with_own_name(tasks::started_by_name);
    0
}
