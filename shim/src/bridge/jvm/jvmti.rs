//! The part of the JVM Tool Interface that the bridge uses, by slot number.
//!
//! Source: JVM Tool Interface specification, version 1.2 (slot numbers, structures and error codes have
//! not changed since Java 5; later versions only fill reserved slots), and `jvmti.h` and `jni.h` of
//! OpenJDK 17. Slots are 1-based there and here.

use core::{
    ffi::{CStr, c_char, c_void},
    ptr,
};

/// `JavaVM*`.
pub type JavaVm = *mut *const [usize; 8];
/// `jvmtiEnv*`: points at the pointer to the function table.
pub type RawEnv = *mut *const Table;
/// `JNIEnv*`: points at the pointer to the function table.
pub type JniEnv = *mut c_void;
/// `jthread`, `jclass`: local references, valid until the callback returns.
pub type Reference = *mut c_void;
/// `jmethodID`.
pub type Method = *mut c_void;
/// `jlocation`: a bytecode index on HotSpot.
pub type Location = i64;
/// `jvmtiError`.
pub type Error = i32;

/// `JNI_OK`.
pub const OK: i32 = 0;
/// `JVMTI_VERSION_1_1`: Java 6 and everything after it.
const VERSION: i32 = 0x3001_0100;
/// `JVMTI_ERROR_DUPLICATE`: SetBreakpoint, there is one already.
pub const DUPLICATE: Error = 40;
/// `JVMTI_ERROR_INVALID_THREAD`, stands for "the table has no such function".
const NO_FUNCTION: Error = 10;

/// `jvmtiInterface_1_`: function pointers of different types, called through [`Env`] alone.
#[repr(C)]
pub struct Table {
    slots: [usize; 156],
}

const SET_EVENT_NOTIFICATION_MODE: usize = 2;
const GET_THREAD_INFO: usize = 9;
const SET_BREAKPOINT: usize = 38;
const DEALLOCATE: usize = 47;
const GET_CLASS_SIGNATURE: usize = 48;
const GET_CLASS_METHODS: usize = 52;
const GET_METHOD_NAME: usize = 64;
const GET_BYTECODES: usize = 75;
const GET_VERSION_NUMBER: usize = 88;
const SET_EVENT_CALLBACKS: usize = 122;
const DISPOSE_ENVIRONMENT: usize = 127;
const ADD_CAPABILITIES: usize = 142;

/// Events, by their number (`jvmtiEvent`).
#[derive(Clone, Copy)]
#[repr(i32)]
pub enum Event {
    /// `JVMTI_EVENT_VM_DEATH`
    VmDeath = 51,
    /// `JVMTI_EVENT_CLASS_PREPARE`
    ClassPrepare = 56,
    /// `JVMTI_EVENT_BREAKPOINT`
    Breakpoint = 62,
    /// `JVMTI_EVENT_DYNAMIC_CODE_GENERATED`
    DynamicCodeGenerated = 70,
}

/// `jvmtiCapabilities`: 128 bits; bit n is the n-th field of the structure.
#[derive(Default)]
#[repr(C)]
struct Capabilities {
    words: [u32; 4],
}

/// `JavaVMAttachArgs` of jni.h.
#[repr(C)]
struct AttachArguments {
    version: i32,
    name: *const c_char,
    group: Reference,
}

/// Attaches the current thread to the JVM under a name.
///
/// # Safety
///
/// `vm` is a living JVM's `JavaVM*`.
pub unsafe fn attach_as_daemon(vm: JavaVm, name: &'static CStr) -> i32 {
    const ATTACH_CURRENT_THREAD_AS_DAEMON: usize = 7;
    const JNI_VERSION_1_6: i32 = 0x0001_0006;
    let mut arguments =
        AttachArguments { version: JNI_VERSION_1_6, name: name.as_ptr(), group: ptr::null_mut() };
    let mut env: JniEnv = ptr::null_mut();
    // SAFETY: slot 7 of the invocation interface is
    // `jint AttachCurrentThreadAsDaemon(JavaVM*, void**, void*)` (JNI specification, chapter 5).
    unsafe {
        let function: unsafe extern "C" fn(JavaVm, *mut JniEnv, *mut AttachArguments) -> i32 =
            core::mem::transmute((**vm)[ATTACH_CURRENT_THREAD_AS_DAEMON]);
        function(vm, &mut env, &mut arguments)
    }
}

/// Detaches the current thread from the JVM.
///
/// # Safety
///
/// The thread was attached by [`attach_as_daemon`] and runs no Java method.
pub unsafe fn detach(vm: JavaVm) -> i32 {
    const DETACH_CURRENT_THREAD: usize = 5;
    // SAFETY: slot 5 of the invocation interface is `jint DetachCurrentThread(JavaVM*)`.
    unsafe {
        let function: unsafe extern "C" fn(JavaVm) -> i32 =
            core::mem::transmute((**vm)[DETACH_CURRENT_THREAD]);
        function(vm)
    }
}

const CAN_GET_BYTECODES: u32 = 3;
const CAN_GENERATE_BREAKPOINT_EVENTS: u32 = 19;

/// `jvmtiThreadInfo`.
#[repr(C)]
struct ThreadInfo {
    name: *mut c_char,
    priority: i32,
    is_daemon: u8,
    thread_group: Reference,
    context_class_loader: Reference,
}

/// `jvmtiEventCallbacks` up to the last event that is used, a pointer each; VM init is number 50.
#[repr(C)]
pub struct Callbacks {
    vm_init: usize,
    /// The JVM is about to end.
    pub vm_death: Option<unsafe extern "C" fn(RawEnv, JniEnv)>,
    thread_start: usize,
    thread_end: usize,
    class_file_load_hook: usize,
    class_load: usize,
    /// A class's methods can be asked for.
    pub class_prepare: Option<unsafe extern "C" fn(RawEnv, JniEnv, Reference, Reference)>,
    vm_start: usize,
    exception: usize,
    exception_catch: usize,
    single_step: usize,
    frame_pop: usize,
    /// A thread is about to execute the instruction at a breakpoint.
    pub breakpoint: Option<unsafe extern "C" fn(RawEnv, JniEnv, Reference, Method, Location)>,
    /// Field access and modification, method entry and exit, native method bind, compiled method load and unload.
    others: [usize; 7],
    /// A part of the JVM was generated: name, address, length.
    pub dynamic_code_generated:
        Option<unsafe extern "C" fn(RawEnv, *const c_char, *const c_void, i32)>,
}

impl Callbacks {
    /// No callback.
    pub const NONE: Callbacks = Callbacks {
        vm_init: 0,
        vm_death: None,
        thread_start: 0,
        thread_end: 0,
        class_file_load_hook: 0,
        class_load: 0,
        class_prepare: None,
        vm_start: 0,
        exception: 0,
        exception_catch: 0,
        single_step: 0,
        frame_pop: 0,
        breakpoint: None,
        others: [0; 7],
        dynamic_code_generated: None,
    };
}

/// A JVMTI environment. Its functions may be called from `Agent_OnLoad`, from callbacks and from
/// attached threads that run native code; nowhere else.
#[derive(Clone, Copy)]
pub struct Env(RawEnv);

/// Calls a slot's function. Each use gives the parameter types of that slot in the specification.
macro_rules! call {
    ($env:expr, $slot:expr, ( $( $type:ty ),* ), $( $argument:expr ),* ) => {{
        // SAFETY: an environment's first word points at the function table for as long as it lives.
        let address = unsafe { (**$env.0).slots[$slot - 1] };
        if address == 0 {
            NO_FUNCTION
        } else {
            // SAFETY: the slot holds a function of these parameters that returns jvmtiError, in the
            // platform's C convention; the arguments outlive the call.
            unsafe {
                core::mem::transmute::<usize, unsafe extern "C" fn(RawEnv $(, $type)*) -> Error>(address)(
                    $env.0 $(, $argument)*
                )
            }
        }
    }};
}

impl Env {
    /// A new environment of this JVM.
    ///
    /// # Safety
    ///
    /// `vm` is the JVM's own `JavaVM*`, and the calling thread is attached to it.
    pub unsafe fn new(vm: JavaVm) -> Result<Env, Error> {
        const GET_ENV: usize = 6; // JNIInvokeInterface_: three reserved words, then the functions
        let mut env: RawEnv = ptr::null_mut();
        // SAFETY: slot 6 of the invocation interface is
        // `jint GetEnv(JavaVM*, void**, jint)` (JNI specification, chapter 5).
        let status = unsafe {
            let function: unsafe extern "C" fn(JavaVm, *mut RawEnv, i32) -> i32 =
                core::mem::transmute((**vm)[GET_ENV]);
            function(vm, &mut env, VERSION)
        };
        if status == OK && !env.is_null() { Ok(Env(env)) } else { Err(status) }
    }

    /// The environment that a callback was given.
    pub fn from_raw(env: RawEnv) -> Env {
        Env(env)
    }

    /// As a pointer, to keep it.
    pub fn as_raw(self) -> RawEnv {
        self.0
    }

    /// The major version of JVMTI, from 9 on that of Java; 0 if it is not said.
    pub fn major_version(self) -> i32 {
        let mut version = 0i32;
        let error = call!(self, GET_VERSION_NUMBER, (*mut i32), &raw mut version);
        if error == OK { version >> 16 & 0xfff } else { 0 }
    }

    /// Asks for breakpoints and bytecodes, and for nothing else.
    pub fn add_capabilities(self) -> Error {
        let mut wanted = Capabilities::default();
        wanted.words[0] = 1 << CAN_GET_BYTECODES | 1 << CAN_GENERATE_BREAKPOINT_EVENTS;
        call!(self, ADD_CAPABILITIES, (*const Capabilities), &raw const wanted)
    }

    /// Sets what is called; the JVM copies the structure.
    pub fn set_callbacks(self, callbacks: &Callbacks) -> Error {
        call!(
            self,
            SET_EVENT_CALLBACKS,
            (*const Callbacks, i32),
            callbacks,
            size_of::<Callbacks>() as i32
        )
    }

    /// Switches an event on or off, in every thread.
    pub fn notify(self, event: Event, on: bool) -> Error {
        call!(
            self,
            SET_EVENT_NOTIFICATION_MODE,
            (i32, i32, Reference),
            i32::from(on),
            event as i32,
            ptr::null_mut()
        )
    }

    /// Ends the environment with all that it set.
    pub fn dispose(self) -> Error {
        call!(self, DISPOSE_ENVIRONMENT, (),)
    }

    /// Hands the Java name of a thread to `use_name`; null is the current thread.
    pub fn with_thread_name<T>(
        self,
        thread: Reference,
        use_name: impl FnOnce(&[u8]) -> T,
    ) -> Option<T> {
        let mut info = ThreadInfo {
            name: ptr::null_mut(),
            priority: 0,
            is_daemon: 0,
            thread_group: ptr::null_mut(),
            context_class_loader: ptr::null_mut(),
        };
        let error =
            call!(self, GET_THREAD_INFO, (Reference, *mut ThreadInfo), thread, &raw mut info);
        if error != OK || info.name.is_null() {
            return None;
        }
        // SAFETY: on success the name is a NUL-terminated string that is ours to deallocate.
        let result = use_name(unsafe { CStr::from_ptr(info.name) }.to_bytes());
        self.deallocate(info.name.cast());
        Some(result)
    }

    /// Whether the class's signature is this one (`Lorg/apache/...;`).
    pub fn class_is(self, class: Reference, wanted: &[&[u8]]) -> Option<usize> {
        let mut signature: *mut c_char = ptr::null_mut();
        let error = call!(
            self,
            GET_CLASS_SIGNATURE,
            (Reference, *mut *mut c_char, *mut *mut c_char),
            class,
            &raw mut signature,
            ptr::null_mut()
        );
        if error != OK || signature.is_null() {
            return None;
        }
        // SAFETY: on success a NUL-terminated string that is ours to deallocate.
        let bytes = unsafe { CStr::from_ptr(signature) }.to_bytes();
        let place = wanted.iter().position(|name| *name == bytes);
        self.deallocate(signature.cast());
        place
    }

    /// Visits the class's own methods with their names and signatures, until `visit` says false.
    pub fn each_method(
        self,
        class: Reference,
        mut visit: impl FnMut(Method, &[u8], &[u8]) -> bool,
    ) -> Error {
        let mut count = 0i32;
        let mut methods: *mut Method = ptr::null_mut();
        let error = call!(
            self,
            GET_CLASS_METHODS,
            (Reference, *mut i32, *mut *mut Method),
            class,
            &raw mut count,
            &raw mut methods
        );
        if error != OK {
            return error;
        }
        let mut result = OK;
        for place in 0..count as usize {
            // SAFETY: on success the array has `count` elements.
            let method = unsafe { *methods.add(place) };
            let mut name: *mut c_char = ptr::null_mut();
            let mut signature: *mut c_char = ptr::null_mut();
            let error = call!(
                self,
                GET_METHOD_NAME,
                (Method, *mut *mut c_char, *mut *mut c_char, *mut *mut c_char),
                method,
                &raw mut name,
                &raw mut signature,
                ptr::null_mut()
            );
            if error != OK {
                result = error;
                break;
            }
            // SAFETY: on success both are NUL-terminated strings that are ours to deallocate.
            let go_on = unsafe {
                visit(method, CStr::from_ptr(name).to_bytes(), CStr::from_ptr(signature).to_bytes())
            };
            self.deallocate(name.cast());
            self.deallocate(signature.cast());
            if !go_on {
                break;
            }
        }
        self.deallocate(methods.cast());
        result
    }

    /// Hands the method's bytecodes to `use_code`.
    pub fn with_bytecodes<T>(
        self,
        method: Method,
        use_code: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Error> {
        let mut count = 0i32;
        let mut code: *mut u8 = ptr::null_mut();
        let error = call!(
            self,
            GET_BYTECODES,
            (Method, *mut i32, *mut *mut u8),
            method,
            &raw mut count,
            &raw mut code
        );
        if error != OK {
            return Err(error);
        }
        let bytes = match usize::try_from(count) {
            // SAFETY: on success `count` bytes that are ours to deallocate.
            Ok(count) if !code.is_null() => unsafe { core::slice::from_raw_parts(code, count) },
            _ => &[],
        };
        let result = use_code(bytes);
        self.deallocate(code);
        Ok(result)
    }

    /// Sets a breakpoint; one that is there already is no error.
    pub fn set_breakpoint(self, method: Method, location: Location) -> Error {
        let error = call!(self, SET_BREAKPOINT, (Method, Location), method, location);
        if error == DUPLICATE { OK } else { error }
    }

    fn deallocate(self, memory: *mut u8) {
        let _ = call!(self, DEALLOCATE, (*mut u8), memory);
    }
}
