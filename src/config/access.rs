//! `access`: who is served.

use serde::{Deserialize, Serialize};

/// Who is served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Whether every request of the wire protocol has to bear an access token. If not, one may, and it has to be good then.
    pub required: bool,
}
