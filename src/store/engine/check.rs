//! What a transaction may look like, whatever the store holds.

use std::collections::BTreeSet;

use crate::store::{Cond, Op, StoreError, Txn};

/// The longest key, in bytes, an appended one with its number included.
pub const MAX_KEY: usize = 1024;
/// The largest value, in bytes: 24 of them and their keys fit into what sled writes in one piece (`store::sled`).
pub const MAX_VALUE: usize = MAX_WISH + 16 * 1024;
/// The largest value that a client may ask for, in bytes. What is above it is the daemon's, which adds a status, the time of an
/// end: no client's record may be so large that its own end cannot be written ([`Txn::leaving_room`]).
pub const MAX_WISH: usize = 64 * 1024;
/// The most that one transaction may carry, keys and values together, in bytes.
pub const MAX_TXN: usize = 1024 * 1024;
/// The most conditions, and the most operations, of one transaction.
pub const MAX_OPS: usize = 1024;

/// Digits of an appended key's number: enough for every `u64`, so that the order of keys is the order of numbers.
pub(super) const DIGITS: usize = 20;

/// Checks a transaction's form and returns its size in bytes.
pub(super) fn check(txn: &Txn) -> Result<usize, StoreError> {
    let too_many = |what: &str, count: usize| invalid(format!("{count} {what}, at most {MAX_OPS} are allowed"));
    if txn.conds.len() > MAX_OPS {
        return Err(too_many("conditions", txn.conds.len()));
    }
    if txn.ops.len() > MAX_OPS {
        return Err(too_many("operations", txn.ops.len()));
    }
    let mut size = 0;
    for cond in &txn.conds {
        let (Cond::Absent(key) | Cond::ModRev(key, _)) = cond;
        size += check_key(key, 0)?;
    }
    let mut written = BTreeSet::new();
    for op in &txn.ops {
        size += match op {
            Op::Put { key, value } => check_key(key, 0)? + check_value(key, value)?,
            Op::Delete { key } => check_key(key, 0)?,
            Op::Append { prefix, .. } if !prefix.ends_with('/') => {
                return Err(invalid(format!("a log's prefix ends in '/', '{prefix}' does not")));
            }
            Op::Append { prefix, value } => check_key(prefix, DIGITS)? + check_value(prefix, value)?,
        };
        let fresh = match op {
            Op::Put { key, .. } | Op::Delete { key } => written.insert(key.as_str()),
            Op::Append { .. } => true,
        };
        if !fresh {
            return Err(twice(op_key(op)));
        }
    }
    if size > MAX_TXN {
        return Err(invalid(format!("{size} bytes in one transaction, at most {MAX_TXN} are allowed")));
    }
    Ok(size)
}

fn op_key(op: &Op) -> &str {
    let (Op::Put { key, .. } | Op::Delete { key } | Op::Append { prefix: key, .. }) = op;
    key
}

fn check_key(key: &str, more: usize) -> Result<usize, StoreError> {
    match key.len() + more {
        0 => Err(invalid("a key is empty".into())),
        len if len > MAX_KEY => Err(invalid(format!("a key of {len} bytes, at most {MAX_KEY} are allowed"))),
        len => Ok(len),
    }
}

fn check_value(key: &str, value: &[u8]) -> Result<usize, StoreError> {
    let len = value.len();
    if len > MAX_VALUE {
        return Err(invalid(format!("{len} bytes for '{key}', at most {MAX_VALUE} are allowed")));
    }
    Ok(len)
}

/// The same key twice among a transaction's writes.
pub(super) fn twice(key: &str) -> StoreError {
    invalid(format!("'{key}' is written twice in one transaction"))
}

pub(super) fn invalid(reason: String) -> StoreError {
    StoreError::Invalid { reason }
}
