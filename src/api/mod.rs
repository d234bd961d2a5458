//! The rules that every transport shares.

mod seal;

pub use seal::{SealError, Sealer};
