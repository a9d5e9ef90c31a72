//! The application in local mode: nothing on the command line says its id, so Spark itself is asked.
//!
//! # Design
//!
//! `SparkEnv.get().conf().getAppId()` is called on a task's thread when a start breakpoint is reached, before the task is
//! noticed: then a Java frame of Spark's is on the stack, whose class loader finds the class, and nothing of the call counts for the task. Every
//! task's thread asks until one has been answered. What fails leaves no exception behind, and the id unknown.

use super::jvmti::{JniEnv, Reference};
use crate::{count::follow, process};
use core::ffi::{CStr, c_char, c_void};

/// Asks Spark, if this process runs tasks and does not know of which application. On a thread of the JVM that executes
/// native code, below a frame of Spark's.
pub fn ask(jni: JniEnv) {
    if process::runs_tasks() && process::application_ids().0.is_empty() {
        // Java code runs as it does without us.
        follow::natively(|| {
            // SAFETY: the caller's own environment, on its thread.
            unsafe { with_answer(jni) };
        });
    }
}

// JNI specification, chapter 4: places in the function table.
const FIND_CLASS: usize = 6;
const EXCEPTION_CLEAR: usize = 17;
const PUSH_LOCAL_FRAME: usize = 19;
const POP_LOCAL_FRAME: usize = 20;
const GET_METHOD_ID: usize = 33;
const CALL_OBJECT_METHOD_A: usize = 36;
const GET_STATIC_METHOD_ID: usize = 113;
const CALL_STATIC_OBJECT_METHOD_A: usize = 116;
const GET_STRING_UTF_LENGTH: usize = 168;
const GET_STRING_UTF_CHARS: usize = 169;
const RELEASE_STRING_UTF_CHARS: usize = 170;
const EXCEPTION_CHECK: usize = 228;

type MethodId = *mut c_void;

/// The functions that are needed, of this thread's table.
struct Jni {
    env: JniEnv,
    table: *const usize,
}

impl Jni {
    /// # Safety
    ///
    /// The function at this place has the type `F`.
    unsafe fn function<F: Copy>(&self, place: usize) -> F {
        // SAFETY: a function pointer, of this type as the caller says.
        unsafe { core::mem::transmute_copy(&*self.table.add(place)) }
    }

    /// Whether the last call threw; the exception is gone then.
    ///
    /// # Safety
    ///
    /// The table is that of the calling thread.
    unsafe fn has_thrown(&self) -> bool {
        // SAFETY: these functions take the environment alone.
        unsafe {
            let check: unsafe extern "C" fn(JniEnv) -> u8 = self.function(EXCEPTION_CHECK);
            let clear: unsafe extern "C" fn(JniEnv) = self.function(EXCEPTION_CLEAR);
            let has_thrown = check(self.env) != 0;
            if has_thrown {
                clear(self.env);
            }
            has_thrown
        }
    }

    /// What a method without parameters of an object, or of a class (`is_static`), gives.
    ///
    /// # Safety
    ///
    /// `of` is a local reference to the object or class, and `class` to the class that has the method.
    unsafe fn call(
        &self,
        of: Reference,
        class: Reference,
        name: &CStr,
        signature: &CStr,
        is_static: bool,
    ) -> Option<Reference> {
        let (find, call) = match is_static {
            true => (GET_STATIC_METHOD_ID, CALL_STATIC_OBJECT_METHOD_A),
            false => (GET_METHOD_ID, CALL_OBJECT_METHOD_A),
        };
        // SAFETY: functions of these types at these places; the method has no parameters, so its array of them is not
        // looked at.
        unsafe {
            let find: unsafe extern "C" fn(
                JniEnv,
                Reference,
                *const c_char,
                *const c_char,
            ) -> MethodId = self.function(find);
            let call: unsafe extern "C" fn(
                JniEnv,
                Reference,
                MethodId,
                *const c_void,
            ) -> Reference = self.function(call);
            let method = find(self.env, class, name.as_ptr(), signature.as_ptr());
            if self.has_thrown() || method.is_null() {
                return None;
            }
            let given = call(self.env, of, method, core::ptr::null());
            (!self.has_thrown() && !given.is_null()).then_some(given)
        }
    }

    /// # Safety
    ///
    /// The table is that of the calling thread.
    unsafe fn class(&self, name: &CStr) -> Option<Reference> {
        // SAFETY: a function of this type at this place.
        unsafe {
            let find: unsafe extern "C" fn(JniEnv, *const c_char) -> Reference =
                self.function(FIND_CLASS);
            let class = find(self.env, name.as_ptr());
            (!self.has_thrown() && !class.is_null()).then_some(class)
        }
    }
}

/// # Safety
///
/// `env` is the calling thread's own, and the thread executes native code.
unsafe fn with_answer(env: JniEnv) {
    const REFERENCES: i32 = 8;
    // SAFETY: the environment's first word points at its function table; functions of these types at these places. All
    // references are local ones of a frame that is left at the end.
    unsafe {
        let jni = Jni { env, table: *env.cast::<*const usize>() };
        let push: unsafe extern "C" fn(JniEnv, i32) -> i32 = jni.function(PUSH_LOCAL_FRAME);
        let pop: unsafe extern "C" fn(JniEnv, Reference) -> Reference =
            jni.function(POP_LOCAL_FRAME);
        if push(env, REFERENCES) != 0 {
            jni.has_thrown();
            return;
        }
        if let Some(id) = id(&jni) {
            let length: unsafe extern "C" fn(JniEnv, Reference) -> i32 =
                jni.function(GET_STRING_UTF_LENGTH);
            let chars: unsafe extern "C" fn(JniEnv, Reference, *mut u8) -> *const u8 =
                jni.function(GET_STRING_UTF_CHARS);
            let release: unsafe extern "C" fn(JniEnv, Reference, *const u8) =
                jni.function(RELEASE_STRING_UTF_CHARS);
            let length = length(env, id);
            let text = chars(env, id, core::ptr::null_mut());
            if !jni.has_thrown() && !text.is_null() {
                process::keep_application(core::slice::from_raw_parts(
                    text,
                    usize::try_from(length).unwrap_or(0),
                ));
                release(env, id, text);
            }
        }
        pop(env, core::ptr::null_mut());
    }
}

/// `SparkEnv.get().conf().getAppId()`.
///
/// # Safety
///
/// As [`with_answer`], in a frame of local references.
unsafe fn id(jni: &Jni) -> Option<Reference> {
    // SAFETY: each reference is the one that the call before gave, of the class that is named.
    unsafe {
        let env_class = jni.class(c"org/apache/spark/SparkEnv")?;
        let conf_class = jni.class(c"org/apache/spark/SparkConf")?;
        let env = jni.call(env_class, env_class, c"get", c"()Lorg/apache/spark/SparkEnv;", true)?;
        let conf = jni.call(env, env_class, c"conf", c"()Lorg/apache/spark/SparkConf;", false)?;
        jni.call(conf, conf_class, c"getAppId", c"()Ljava/lang/String;", false)
    }
}
