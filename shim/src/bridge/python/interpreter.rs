//! The interpreter's side: an audit hook that tells when `pyspark` knows its task.
//!
//! # Design
//!
//! `PySys_AddAuditHook` (PEP 578) may be called before the interpreter starts, and children of fork inherit the hook: so
//! the daemon's constructor adds it once. The worker unpickles its function for each task, after it has set its
//! `TaskContext`; the audit event `pickle.find_class` comes then, with the interpreter's lock held. For all other
//! events, and while no task is expected ([`tasks::is_expected`]), the hook is a load and a return. It runs no
//! Python code: it looks at `sys.modules`, a class attribute and three numbers of `pyspark.taskcontext`, and never
//! answers anything but «go on».
//!
//! # Limitations
//!
//! - Python before 3.8 and PyPy have no such hook, and an interpreter that is loaded after this library's constructor
//!   is not found: a notice says so, and counts stay the process's.
//! - With a hook CPython makes the arguments of each audit event, which counts as what it is: instructions of the interpreter.

use super::tasks::{self, ServedTask};
use crate::{
    base::{guarded, link},
    process,
    record::threads,
};
use alloc::boxed::Box;
use core::{
    ffi::{CStr, c_char, c_void},
    ptr::null_mut,
    sync::atomic::{AtomicPtr, Ordering},
};
use records::{TaskMethod, notice};

/// A Python object; null after a failure.
type Object = *mut c_void;
type Hook = unsafe extern "C" fn(*const c_char, Object, *mut c_void) -> i32;

/// The event that comes for each task after its context is set.
const EVENT: &CStr = c"pickle.find_class";

/// The functions of the interpreter that are called, all of them of its stable ABI.
struct Functions {
    /// `PyImport_GetModuleDict`
    modules: unsafe extern "C" fn() -> Object,
    /// `PyDict_GetItemString`
    item: unsafe extern "C" fn(Object, *const c_char) -> Object,
    /// `PyObject_GetAttrString`
    attribute: unsafe extern "C" fn(Object, *const c_char) -> Object,
    /// `PyLong_AsLongLong`
    number: unsafe extern "C" fn(Object) -> i64,
    /// `Py_DecRef`
    release: unsafe extern "C" fn(Object),
    /// `PyErr_Occurred`
    has_failed: unsafe extern "C" fn() -> Object,
    /// `PyErr_Clear`
    forget_failure: unsafe extern "C" fn(),
    /// `PySys_AddAuditHook`
    add_hook: unsafe extern "C" fn(Hook, *mut c_void) -> i32,
}

/// Null where nobody is told of tasks.
static FUNCTIONS: AtomicPtr<Functions> = AtomicPtr::new(null_mut());

impl Functions {
    /// All of them, or the name of one that is missing.
    fn find() -> Result<Functions, &'static CStr> {
        // SAFETY: each has the type that the interpreter's stable ABI fixes for that name.
        unsafe {
            Ok(Functions {
                modules: function(c"PyImport_GetModuleDict")?,
                item: function(c"PyDict_GetItemString")?,
                attribute: function(c"PyObject_GetAttrString")?,
                number: function(c"PyLong_AsLongLong")?,
                release: function(c"Py_DecRef")?,
                has_failed: function(c"PyErr_Occurred")?,
                forget_failure: function(c"PyErr_Clear")?,
                add_hook: function(c"PySys_AddAuditHook")?,
            })
        }
    }
}

/// # Safety
///
/// `F` is the type of the function with this name.
unsafe fn function<F: Copy>(name: &'static CStr) -> Result<F, &'static CStr> {
    let address = link::find(name).ok_or(name)?;
    // SAFETY: as the caller says; a function pointer is an address.
    Ok(unsafe { core::mem::transmute_copy(&address) })
}

/// Has the interpreter tell of tasks. Called before it starts; before the first record file, whose header names the
/// method.
pub fn watch() {
    let lacks = match Functions::find() {
        Ok(functions) => {
            let functions = Box::leak(Box::new(functions));
            FUNCTIONS.store(functions, Ordering::Release);
            // SAFETY: the hook has the type that the function wants, and stays where it is.
            if unsafe { (functions.add_hook)(hook, null_mut()) } == 0 {
                process::set_task_method(TaskMethod::PYTHON_WORKER);
                return tasks::watch();
            }
            "an interpreter that takes a hook"
        }
        Err(name) => name.to_str().unwrap_or_default(),
    };
    threads::notice(
        notice::TASK_DETECTION,
        0,
        format_args!(
            "no {lacks} (CPython has it from 3.8 on): what this Python worker does is not told apart by task"
        ),
    );
}

unsafe extern "C" fn hook(event: *const c_char, _arguments: Object, _data: *mut c_void) -> i32 {
    if tasks::is_expected() && !guarded::switched_off() {
        // SAFETY: `look` takes the event's name.
        unsafe { guarded::guarded(event as usize, look) };
    }
    0
}

unsafe extern "C" fn look(event: usize) -> usize {
    // SAFETY: the interpreter's own name of the event.
    let event = unsafe { CStr::from_ptr(event as *const c_char) };
    if event == EVENT && tasks::is_on_main_thread() {
        // SAFETY: the event is raised with the interpreter's lock held, by code that unpickles.
        if let Some(task) = unsafe { served_task() } {
            tasks::identified(task);
        }
    }
    0
}

/// What `pyspark.taskcontext.TaskContext._taskContext` says.
///
/// # Safety
///
/// This thread holds the interpreter's lock.
unsafe fn served_task() -> Option<ServedTask> {
    // SAFETY: null or a leaked box.
    let python = unsafe { FUNCTIONS.load(Ordering::Acquire).as_ref() }?;
    // SAFETY: as the caller says; what is borrowed is not released, and no error is left behind where none was.
    unsafe {
        if !(python.has_failed)().is_null() {
            return None;
        }
        let module = (python.item)((python.modules)(), c"pyspark.taskcontext".as_ptr());
        let task = (!module.is_null()).then(|| {
            python.with_attribute(module, c"TaskContext", |class| {
                python.with_attribute(class, c"_taskContext", |context| {
                    let number =
                        |name| python.with_attribute(context, name, |one| python.number(one));
                    Some(ServedTask {
                        task_id: number(c"_taskAttemptId")?,
                        stage: i32::try_from(number(c"_stageId")?).ok()?,
                        attempt: i32::try_from(number(c"_attemptNumber")?).ok()?,
                    })
                })
            })
        });
        (python.forget_failure)();
        task.flatten()
    }
}

impl Functions {
    /// What `work` makes of an object's attribute; `None` if there is none.
    ///
    /// # Safety
    ///
    /// As [`served_task`], and `object` is one.
    unsafe fn with_attribute<R>(
        &self,
        object: Object,
        name: &CStr,
        work: impl FnOnce(Object) -> Option<R>,
    ) -> Option<R> {
        // SAFETY: as the caller says; the reference is ours, and given back.
        unsafe {
            let attribute = (self.attribute)(object, name.as_ptr());
            if attribute.is_null() {
                return None;
            }
            let result = work(attribute);
            (self.release)(attribute);
            result
        }
    }

    /// A number that is not negative.
    ///
    /// # Safety
    ///
    /// As [`served_task`], and `object` is one.
    unsafe fn number(&self, object: Object) -> Option<i64> {
        // SAFETY: as the caller says. What is no number gives -1, and an error that the caller clears.
        Some(unsafe { (self.number)(object) }).filter(|&number| number >= 0)
    }
}
