//! The thread that writes.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::apply::Round;
use super::published::{Past, Published};
use super::{Failure, Journal, JournalError, Snapshot, chain};
use crate::store::{StoreError, Txn, TxnResult};

/// Transactions in one round: more would make the first of them wait too long.
const ROUND_TXNS: usize = 1024;
/// Bytes in one round, passed by its last transaction at most.
const ROUND_BYTES: usize = 1024 * 1024;

/// Nobody waits when nobody came for so long: longer than the clients of a burst are apart, who need the processor.
pub(in crate::store) const QUIET: Duration = Duration::from_millis(2);

/// Revisions that come one right after the other before what they put an end to is let go of although somebody waits: about
/// a megabyte.
const PAST: usize = 256;

/// A transaction on its way.
pub(super) struct Request {
    pub(super) txn: Txn,
    pub(super) size: usize,
    pub(super) answer: oneshot::Sender<Result<TxnResult, StoreError>>,
}

/// Works until nobody can send any more and the queue is empty.
pub(super) fn run(
    requests: Receiver<Request>,
    mut journal: impl Journal,
    published: &Published,
    told: &watch::Sender<u64>,
    failure: &Failure,
) {
    let mut refusing = false;
    let mut past = Vec::new();
    loop {
        let first = match requests.recv_timeout(QUIET) {
            Err(RecvTimeoutError::Timeout) => {
                past.clear();
                requests.recv().ok()
            }
            received => received.ok(),
        };
        let Some(first) = first else { break };
        let round = gather(first, &requests);
        if let Some(error) = failure.refusal() {
            refuse(round, &error);
            continue;
        }
        let room = journal.ready();
        told_once(&mut refusing, &room);
        if let Err(error) = room {
            refuse(round, &StoreError::Unavailable { reason: chain(&*error) });
        } else {
            past.extend(commit(round, &mut journal, published, told, failure));
            if past.iter().map(|past: &Past| past.revisions).sum::<usize>() > PAST {
                past.clear();
            }
        }
    }
}

/// Says when writes begin to be refused for want of room, and when they are taken again: whoever is refused only knows
/// of his own.
fn told_once(refusing: &mut bool, room: &Result<(), JournalError>) {
    match room {
        Err(error) if !*refusing => {
            tracing::warn!(error = chain(&**error), "the store takes no writes for now; it goes on by itself");
        }
        Ok(()) if *refusing => tracing::info!("the store takes writes again"),
        Ok(()) | Err(_) => {}
    }
    *refusing = room.is_err();
}

fn gather(first: Request, requests: &Receiver<Request>) -> Vec<Request> {
    let mut bytes = first.size;
    let mut round = vec![first];
    while round.len() < ROUND_TXNS && bytes < ROUND_BYTES {
        let Ok(next) = requests.try_recv() else { break };
        bytes += next.size;
        round.push(next);
    }
    round
}

fn refuse(round: Vec<Request>, error: &StoreError) {
    for request in round {
        answer(request.answer, Err(error.clone()));
    }
}

/// Does a round and tells everybody, in this order: readers, waiters, watchers. Whoever waits for an answer thus
/// reads his own write, and does not wait for what others do about it. Nobody is told what is not durable: that includes
/// conflicts, since what a condition was compared with may have been written earlier in the same round.
fn commit(
    requests: Vec<Request>,
    journal: &mut impl Journal,
    published: &Published,
    told: &watch::Sender<u64>,
    failure: &Failure,
) -> Option<Past> {
    let mut state = Snapshot::clone(&published.snapshot());
    let mut round = Round::default();
    let mut answers = Vec::with_capacity(requests.len());
    for Request { txn, answer, .. } in requests {
        answers.push((answer, state.apply(txn, &mut round)));
    }
    if round.batches.is_empty() {
        answers.into_iter().for_each(|(waiter, result)| answer(waiter, result));
        return None;
    }
    if let Err(error) = journal.write(&state, &round) {
        let reason = failure.end(&*error);
        for (waiter, result) in answers {
            answer(waiter, result.and_then(|_| Err(StoreError::Unknown { reason: reason.clone() })));
        }
        return None;
    }
    let revision = state.revision;
    let past = published.publish(state, round);
    answers.into_iter().for_each(|(waiter, result)| answer(waiter, result));
    told.send_replace(revision);
    Some(past)
}

fn answer(waiter: oneshot::Sender<Result<TxnResult, StoreError>>, result: Result<TxnResult, StoreError>) {
    // Nobody has to wait for the answer.
    let _ = waiter.send(result);
}
