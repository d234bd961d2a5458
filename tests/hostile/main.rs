//! Hostile clients against a running daemon that simulates its machines, and hostile guests (`guests`) against the shell that
//! sets them up. Beside each attack a good client is served, and afterwards nothing of the attack is left.

#[path = "../common/mod.rs"]
mod common;
mod floods;
mod guests;
mod keys;
mod log;
mod memory;
mod replays;
mod siege;
mod slow;
#[allow(dead_code)]
#[path = "../wire/support.rs"]
mod support;
mod truncations;
