//! A growable array in memory of its own.
//!
//! # Design
//! It begins small and is made twice as large when it is full: the kernel moves the pages, nothing is copied. Neither the
//! application's allocator nor the host's is asked, and an application whose address space is limited keeps it.

use super::memory;

/// Bytes that an array begins with, if so many are wanted.
const FIRST_BYTES: usize = 32 << 10;

/// An append-only array of plain data.
pub struct Reserved<T: Copy> {
    base: *mut T,
    /// Elements that there is memory for.
    capacity: usize,
    /// Elements that there may ever be.
    most: usize,
    len: usize,
}

// SAFETY: the memory belongs to the array alone, as a vector's does.
unsafe impl<T: Copy + Send> Send for Reserved<T> {}
// SAFETY: as above; it changes through `&mut self` alone.
unsafe impl<T: Copy + Sync> Sync for Reserved<T> {}

impl<T: Copy> Reserved<T> {
    /// An empty array of at most so many elements; `None` when the kernel refuses memory.
    pub fn new(most: usize) -> Option<Self> {
        Self::with_capacity(most.min(FIRST_BYTES / size_of::<T>()), most)
    }

    fn with_capacity(capacity: usize, most: usize) -> Option<Self> {
        let bytes = capacity * size_of::<T>();
        let base = memory::map_anonymous(0, bytes, memory::PROT_READ | memory::PROT_WRITE)?;
        Some(Self { base: base as *mut T, capacity, most, len: 0 })
    }

    /// `len` elements, all of them zero bytes; `None` when the kernel refuses memory.
    ///
    /// # Safety
    /// Zero bytes must be a value of `T`.
    pub unsafe fn zeroed(len: usize) -> Option<Self> {
        let mut all = Self::with_capacity(len, len)?;
        all.len = len;
        Some(all)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends one element and returns its index; `None` when there are as many as there may be, or the kernel refuses
    /// memory.
    pub fn push(&mut self, value: T) -> Option<u32> {
        if self.len == self.capacity {
            self.grow()?;
        }
        // SAFETY: there is memory for `capacity` elements.
        unsafe { self.base.add(self.len).write(value) };
        self.len += 1;
        Some(self.len as u32 - 1)
    }

    #[cold]
    fn grow(&mut self) -> Option<()> {
        let capacity = (self.capacity * 2).min(self.most);
        if capacity == self.capacity {
            return None;
        }
        let [old, new] = [self.capacity, capacity].map(|elements| elements * size_of::<T>());
        // SAFETY: the mapping is the array's own, and nobody has a reference to an element now.
        let base = unsafe { memory::enlarge(self.base as usize, old, new) }?;
        (self.base, self.capacity) = (base as *mut T, capacity);
        Some(())
    }

    /// The elements.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: so many were written, or are zero bytes, as the caller of `zeroed` wanted.
        unsafe { core::slice::from_raw_parts(self.base, self.len) }
    }

    /// The elements, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts_mut(self.base, self.len) }
    }

    /// Forgets all elements.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Forgets all elements and gives the memory back that it did not have at first.
    pub fn shrink(&mut self) {
        self.clear();
        let capacity = self.most.min(FIRST_BYTES / size_of::<T>()).min(self.capacity);
        let [old, new] = [self.capacity, capacity]
            .map(|elements| (elements * size_of::<T>()).next_multiple_of(4096));
        // SAFETY: the end of our own mapping, which holds no element.
        unsafe { memory::unmap(self.base as usize + new, old - new) };
        self.capacity = capacity;
    }

    /// Bytes of address space.
    pub fn address_space(&self) -> usize {
        self.capacity * size_of::<T>()
    }

    /// Bytes of memory that the elements occupy.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
}

impl<T: Copy> Drop for Reserved<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone.
        unsafe { memory::unmap(self.base as usize, self.capacity * size_of::<T>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_what_it_may_hold_and_keeps_everything() {
        let most = 3 * FIRST_BYTES / 8 + 5;
        let mut array = Reserved::new(most).unwrap();
        assert!(array.is_empty());
        assert!((0..most as u64).all(|i| array.push(!i) == Some(i as u32)));
        assert_eq!(array.push(0), None, "no more than it may hold");
        assert!(array.as_slice().iter().enumerate().all(|(i, &value)| value == !(i as u64)));
        array.clear();
        assert_eq!((array.push(7), array.as_slice()), (Some(0), &[7][..]));
        array.shrink();
        assert!((0..most as u64).all(|i| array.push(i) == Some(i as u32)));
    }

    #[test]
    fn what_is_wanted_zeroed_is_there_at_once() {
        // SAFETY: any bytes are numbers.
        let array = unsafe { Reserved::<u32>::zeroed(FIRST_BYTES) }.unwrap();
        assert_eq!(array.as_slice(), [0; FIRST_BYTES]);
    }
}
