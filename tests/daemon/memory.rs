//! The allocator is a part of the program that no code calls by its name.

use crate::common::daemon::{finish, program, stderr};

#[test]
fn the_allocator_is_set_as_the_program_says() {
    // It tells at the end how it was set.
    let told = stderr(&finish(program(["--version"]).env("MALLOC_CONF", "stats_print:true")));
    let settings = ["narenas: 1", "tcache_max: 1024", "dirty_decay_ms: 500", "muzzy_decay_ms: 0"];
    // Threads of its own would be there before any code of ours.
    for setting in settings.into_iter().chain(["background_thread: false"]) {
        let line = format!("  opt.{setting}");
        let found = told.lines().any(|told| told.split(" (").next() == Some(&line));
        assert!(found, "no '{line}':\n{told}");
    }
}
