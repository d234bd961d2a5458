//! What brings the world to what the records wish.

pub mod queue;
