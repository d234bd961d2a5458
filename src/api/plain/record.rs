//! A record as it is kept: of a secret sealed as a whole, because `kubectl apply` writes its data into its annotations, too.
//! It is opened as it is told, so that snapshots and history in memory are as sealed as the disk is.

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::PlainKind;
use crate::api::Sealer;
use crate::store::records::{self, RecordError, SECRETS};
use crate::store::{Kv, Op, Store, StoreError, Txn, TxnResult};

/// An object as it is shown.
pub(in crate::api) fn shown(kind: PlainKind, mut object: Value, rev: u64) -> Value {
    object["metadata"]["resourceVersion"] = rev.to_string().into();
    let mut shown = Map::from_iter([
        ("kind".to_owned(), Value::from(kind.kind())),
        ("apiVersion".to_owned(), Value::from(kind.api_version())),
    ]);
    if let Value::Object(fields) = object {
        shown.extend(fields.into_iter().filter(|(name, _)| name != "kind" && name != "apiVersion"));
    }
    shown.into()
}

/// A record as it is shown.
pub(super) fn view(sealer: &Sealer, kind: PlainKind, kv: &Kv) -> Result<Value, RecordError> {
    let opened = sealer.open_record(&kv.key, &kv.value);
    let opened = opened.map_err(|error| RecordError::Unopened { key: kv.key.to_string(), source: error.into() })?;
    let object = match opened {
        Some(text) => {
            let unreadable = |source| RecordError::Unreadable { key: kv.key.to_string(), source };
            serde_json::from_slice(&text).map_err(unreadable)?
        }
        None => records::decode(kv)?.object,
    };
    Ok(shown(kind, object, kv.mod_rev))
}

/// Writes an object.
pub(super) fn put(txn: Txn, sealer: &Sealer, kind: PlainKind, key: &str, object: &Value) -> Txn {
    match kind {
        PlainKind::Secret => put_sealed(txn, sealer, key, object.to_string().into_bytes().into()),
        PlainKind::Namespace | PlainKind::Lease | PlainKind::Event => txn.put(key, object),
    }
}

fn put_sealed(mut txn: Txn, sealer: &Sealer, key: &str, text: Zeroizing<Vec<u8>>) -> Txn {
    txn.ops.push(Op::Put { key: key.into(), value: sealer.seal_record(key, &text).into() });
    txn
}

/// Seals what a version before sealing wrote, and says of how many secrets. One that cannot be sealed stays as it is until
/// it is written again.
pub(super) async fn seal_all(store: &dyn Store, sealer: &Sealer) -> Result<usize, StoreError> {
    let mut sealed = 0;
    for kv in store.list(SECRETS)?.0 {
        if kv.value.starts_with(records::SEALED.as_bytes()) {
            continue;
        }
        let txn = put_sealed(Txn::default().key_unchanged(&kv), sealer, &kv.key, kv.value.to_vec().into());
        match store.txn(txn).await {
            Ok(TxnResult::Committed(_)) => sealed += 1,
            Ok(TxnResult::Conflict { .. }) => {}
            // So large that sealed it is too large.
            Err(StoreError::Invalid { reason }) => {
                tracing::warn!(key = &*kv.key, reason, "a secret stays as it was written");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sealed)
}
