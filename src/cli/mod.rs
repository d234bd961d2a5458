//! x
pub mod credentials;
