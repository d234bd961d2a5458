//! The targets, for the engine.

mod targets;

/// Does what a target does with an input; panics where its property is broken.
pub fn run(target: &str, input: &[u8]) {
    targets::find(target)(input);
}
