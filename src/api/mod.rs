//! The rules: what a client may wish for and what it is told, the same for every transport.
//!
//! Nothing here touches a machine. A verb writes desired state, and waits until the operator's commits say what
//! came of it.

pub mod access;
pub mod access_tokens;
pub(crate) mod authentic;
mod births;
pub(crate) mod claims;
mod delivery;
mod doctor;
mod doubts;
pub mod events;
mod extend;
pub(crate) mod images;
mod login;
pub mod namespaces;
pub mod objects;
pub(crate) mod placing;
pub mod plain;
mod reservations;
mod review;
mod seal;
mod verbs;
mod wishes;

#[cfg(test)]
mod tests;

pub use access_tokens::QuotaError;
pub use births::{BirthError, Births, random_text};
pub use doctor::{Cure, Doctor};
pub use doubts::Doubts;
pub use extend::{Deadline, ExtendError};
pub use images::{Digests, ImageError};
pub use login::{Login, LoginError};
pub use objects::Objects;
pub use review::Review;
pub use seal::{SealError, Sealer};
pub use verbs::{Api, ApiError, End, Granted, Stat};
pub use wishes::{WishError, Wishes};
