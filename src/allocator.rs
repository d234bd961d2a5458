//! The program's allocator, and how it is set.
//!
//! A daemon works in bursts, on threads that come and go, and what is freed has to go back to the system whichever thread
//! frees it. In glibc's heaps and threads' caches it stays: 10,000 simulated containers with their events took 121 MiB
//! there, and take 105 to 111 here (resident, two processors).

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// One heap, caches of threads for what is small only, and what lies unused for half a second goes back. Not by a thread of
/// jemalloc's own: what `act_as_owner_of` (src/privilege.rs) changes, it changes for the one thread that there is. Kept by
/// `the_allocator_is_set_as_the_program_says` (tests/daemon/memory.rs).
const SETTINGS: &[u8] = b"narenas:1,lg_tcache_max:10,dirty_decay_ms:500,muzzy_decay_ms:0\0";

// SAFETY: jemalloc reads it as `const char *malloc_conf`: a pointer to text that ends with a zero, as this does.
#[allow(unsafe_code)]
#[unsafe(export_name = "malloc_conf")]
static MALLOC_CONF: Option<&u8> = SETTINGS.first();
