//! A growable array whose elements never move.
//!
//! # Design
//! Address space is reserved once and the kernel gives pages when they are touched, so growing costs
//! nothing, a reader on another thread needs no lock (it reads the published length first), and the
//! engine never calls the application's allocator.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::sys;

/// An append-only array of plain data at a fixed address.
pub struct Reserved<T: Copy> {
    base: *mut T,
    capacity: usize,
    len: AtomicUsize,
    plain: PhantomData<T>,
}

// SAFETY: elements are plain data, published by a release store of the length.
unsafe impl<T: Copy + Send> Send for Reserved<T> {}
// SAFETY: as above; writers are serialised by the owner's lock.
unsafe impl<T: Copy + Send> Sync for Reserved<T> {}

impl<T: Copy> Reserved<T> {
    /// Reserves room for `capacity` elements; `None` when the address space is refused.
    pub fn new(capacity: usize) -> Option<Self> {
        let bytes = capacity * size_of::<T>();
        let base = sys::map_anonymous(0, bytes, sys::PROT_READ | sys::PROT_WRITE)?;
        Some(Self { base: base as *mut T, capacity, len: AtomicUsize::new(0), plain: PhantomData })
    }

    /// `len` elements, all of them zero bytes; `None` when the address space is refused.
    ///
    /// # Safety
    /// Zero bytes must be a value of `T`.
    pub unsafe fn zeroed(len: usize) -> Option<Self> {
        let mut all = Self::new(len)?;
        *all.len.get_mut() = len;
        Some(all)
    }

    /// Number of published elements.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Is nothing published?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends one element; `None` when the reservation is full. Writers must be serialised.
    pub fn push(&mut self, value: T) -> Option<u32> {
        let at = *self.len.get_mut();
        if at == self.capacity {
            return None;
        }
        // SAFETY: `at` lies inside the reservation and no reader looks beyond the published length.
        unsafe { self.base.add(at).write(value) };
        self.len.store(at + 1, Ordering::Release);
        Some(at as u32)
    }

    /// The published elements.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: elements below the published length are initialised and never move.
        unsafe { core::slice::from_raw_parts(self.base, self.len()) }
    }

    /// The published elements, for the one writer.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above, and `&mut self` excludes other writers.
        unsafe { core::slice::from_raw_parts_mut(self.base, self.len()) }
    }

    /// Forgets all elements; no reader may hold the slice.
    pub fn clear(&mut self) {
        self.len.store(0, Ordering::Release);
    }

    /// Bytes of memory that the elements occupy.
    pub fn bytes(&self) -> usize {
        self.len() * size_of::<T>()
    }
}

impl<T: Copy> Drop for Reserved<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone.
        unsafe { sys::unmap(self.base as usize, self.capacity * size_of::<T>()) };
    }
}
