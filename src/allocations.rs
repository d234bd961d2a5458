//! How much some work takes from the allocator: what it costs whatever the machine, and whatever else that does.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes that this thread was given.
    static GIVEN: Cell<usize> = const { Cell::new(0) };
    /// Bytes that it gave back, whoever was given them.
    static BACK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all of it is the system's; what is counted is a number without destructor, which allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        GIVEN.with(|given| given.set(given.get() + layout.size()));
        // SAFETY: the caller's promises are those that the system asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BACK.with(|back| back.set(back.get() + layout.size()));
        // SAFETY: the same; and whatever is given back was the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// How many bytes some work on this thread asks for, given back or not.
pub(crate) fn allocated(work: impl FnOnce()) -> usize {
    let before = GIVEN.with(Cell::get);
    work();
    GIVEN.with(Cell::get) - before
}

/// What some work on this thread makes, and how many bytes of it are still held when it is done.
pub(crate) fn held<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let held = || GIVEN.with(Cell::get).wrapping_sub(BACK.with(Cell::get));
    let before = held();
    let made = work();
    (made, held().wrapping_sub(before))
}
