//! The engine that handlers serve.

use core::sync::atomic::{AtomicPtr, Ordering};

use crate::isa::x86_64::app_memory;
use crate::run::engine::Engine;

/// The engine of handlers that arrive on threads without a block.
static ENGINE: AtomicPtr<Engine> = AtomicPtr::new(core::ptr::null_mut());

/// Makes the engine known to handlers; before the first one is set.
pub(crate) fn serve(engine: &Engine) {
    ENGINE.store((&raw const *engine).cast_mut(), Ordering::Release);
    app_memory::on_refusal(|| {
        if let Some(engine) = self::engine() {
            engine.serve_faults();
        }
    });
}

/// The engine that handlers serve.
pub(crate) fn engine() -> Option<&'static Engine> {
    // SAFETY: null or a 'static engine.
    unsafe { ENGINE.load(Ordering::Acquire).as_ref() }
}
