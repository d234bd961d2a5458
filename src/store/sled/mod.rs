//! Records on disk: a journal over sled 0.34.7, which is fast and sound as long as these rules are kept.
//!
//! | sled's trap | the rule here |
//! | --- | --- |
//! | `flush` wakes its threads, waits, and does not survive a power cut | a round is told when it is on the disk in a log of our own ([`ahead`]) |
//! | the same, now and then | after it, `fdatasync` on the `db` file itself, before what was in that log is written over |
//! | `flush_async` hangs from seven callers on | never used: one thread writes, and flushes blocking ([`behind`]) |
//! | a kill while opening leaves `snap.X.generating`, and no open works again | such files are removed first ([`layout`]) |
//! | its threads hold its files a little after the close | whoever closes waits for them, and whoever opens after an opening that failed ([`lock`]) |
//! | subscribers block writers and deadlock when dropped | never used: watchers read the engine's history |
//! | large pages go to files that are never synced | segments so large that no page is ([`SEGMENT`]) |
//! | a full disk is an error for good, and the store does not open | writes are refused while there is still room |
//! | on damaged files it errs, panics, or loops | all of it is damage, and said ([`contain`]) |
//! | a damaged message ends the log as if nothing had come after it | the last revision told is noted ([`told`]) |
//!
//! `tests/store` cuts the power (`acknowledged_writes_survive_a_power_cut`), fills the disk, turns it read-only, has it
//! give errors, and damages files at random (`a_damaged_store_opens_with_all_that_was_told_or_says_that_it_is_damaged`).
//!
//! # A round is whole or absent after a crash
//!
//! Read in sled's source: `Tree::apply_batch` reserves a `BatchManifest` message in the log before the batch's first
//! write and fills in the log position of its last one when it is sealed. Recovery that meets a manifest whose
//! position lies beyond the end of the intact log stops *before* the manifest (`LogIter::next`, "cutting recovery
//! short due to torn batch"). So a batch in one tree is atomic, and a round is exactly one batch: records, log
//! counters and the totals in [`codec::Meta`]. The end of the intact log is found by checksums of messages and by
//! links between segments. What a power cut takes from it, whatever that is, is in the log ahead; should it ever take
//! more, the totals do not fit the records and the store says so instead of opening with half a round.

mod ahead;
mod behind;
mod codec;
mod contain;
mod error;
mod install;
mod layout;
mod lock;
mod salvage;
mod told;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::engine::{Failure, HistoryLimits, Journal, JournalError, LocalStore, MAX_KEY, MAX_VALUE, Round, Snapshot};
use super::{Change, Rounds};
use crate::failpoint::failpoint;
use ahead::{Ahead, Written};
use behind::Behind;
use codec::{Entry, Meta};
use contain::contained;
use lock::Lock;
use told::Told;

pub use error::OpenError;
pub use install::{Aside, Replacement, install};
pub use salvage::{Salvage, salvage};

/// Memory for sled's pages: more than there are. What a page takes is its records', and those are shared with the state; one
/// that was let go of and read again would have copies of its own.
const CACHE: u64 = 1024 * 1024 * 1024;

/// The log's unit. sled puts a page that is larger than a quarter of it into a file of its own, which it never
/// syncs: with its default of 512 KiB, 17 values of 8 KiB in one leaf are enough. Leaves split above 16 entries, and
/// inner nodes above 256, a few more can gather before that: 24 of the largest keys and values fit into 2 MiB, and so
/// do 300 of the largest keys. (Measured against 512 KiB: the same speed, 12 MiB more memory.)
const SEGMENT: usize = 8 * 1024 * 1024;
const _: () = assert!(24 * (MAX_VALUE + MAX_KEY + 1024) <= SEGMENT / 4);

/// How often sled looks after its file by itself, in milliseconds: it writes what is left in its buffers, gives segments free
/// and syncs the file. Nobody waits for any of it, but whoever waits for the disk meanwhile waits longer. (sled's default is
/// 500.)
const UPKEEP: u64 = 5_000;

/// How a store on disk is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Writes are refused while the file system has less than this many bytes left.
    pub reserve: u64,
    /// How much of the past is kept for watchers.
    pub history: HistoryLimits,
    /// Who is told of every durable write.
    pub rounds: Option<Arc<dyn Rounds>>,
}

impl Default for Options {
    fn default() -> Self {
        Options { reserve: 64 * 1024 * 1024, history: HistoryLimits::default(), rounds: None }
    }
}

/// Opens the store in `dir`, and makes it if there is nothing yet. Blocks.
///
/// Nobody else can open it until the store is closed or dropped, or the process has ended.
pub fn open(dir: &Path, options: Options) -> Result<Arc<LocalStore>, OpenError> {
    open_on(Arc::new(RealDisk), dir, options)
}

/// What is asked of the disk below the files.
trait Disk: Send + Sync {
    /// How many bytes its file system has left.
    fn free(&self, file: &File) -> io::Result<u64>;
    /// Returns when the file's content survives a power cut.
    fn sync(&self, file: &File) -> io::Result<()>;
}

struct RealDisk;

impl Disk for RealDisk {
    fn free(&self, file: &File) -> io::Result<u64> {
        let space = rustix::fs::fstatvfs(file)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(file)?)
    }
}

fn open_on(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<Arc<LocalStore>, OpenError> {
    layout::make_dir(dir)?;
    let lock = Lock::take(dir)?;
    let new = layout::is_new(dir)?;
    if new {
        layout::begin_new(dir)?;
        failpoint!("store-empty");
    } else {
        layout::check_format(dir)?;
        layout::remove_partial_snapshots(dir).map_err(|source| OpenError::from_io(dir, source))?;
        layout::forget_cached(dir).map_err(|source| OpenError::from_io(&layout::log(dir), source))?;
    }
    let noted = if new { None } else { told::read(dir).map_err(|source| OpenError::from_io(dir, source))? };
    let (base, state) = {
        let dir = dir.to_owned();
        contained(&dir.clone(), move || {
            let base = Base::open(&dir)?;
            if new {
                let empty = Meta::of(&Snapshot::new()).encode();
                base.db.insert(codec::META, empty).map_err(|error| OpenError::from_sled(&dir, error))?;
                failpoint!("store-unsynced");
            }
            catch_up(&dir, &base.db)?;
            let state = load(&dir, &base.db)?;
            Ok((base, state))
        })?
    };
    if let Some(noted) = noted.filter(|noted| *noted > state.revision) {
        let what = format!("it should hold revision {noted}, which was told, but ends at revision {}", state.revision);
        return Err(OpenError::Damaged { dir: dir.into(), source: what.into() });
    }
    // What a killed process wrote may be readable and still not be on the disk: nobody reads it before it is.
    base.sync(&*disk).map_err(|error| OpenError::from_sled(dir, error))?;
    let begun = Told::begin(dir, state.revision).and_then(|told| Ok((told, Ahead::begin(dir)?)));
    let (told, ahead) = begun.map_err(|source| OpenError::from_io(dir, source))?;
    if new {
        layout::finish_new(dir)?;
    }
    let Options { reserve, history, rounds } = options;
    let failure = Failure::default();
    let io = |source| OpenError::from_io(dir, source);
    let behind = Behind::start(base, Arc::clone(&disk), failure.clone()).map_err(io)?;
    let revision = state.revision;
    let journal = Sled { behind, disk, ahead, revision, told, reserve, rounds, dir: dir.into(), _lock: lock };
    LocalStore::start(journal, state, history, failure).map_err(io)
}

/// sled's database. Dropped, it has let go of its files.
struct Base {
    db: ::sled::Db,
    /// Dropped after it, since fields are dropped in this order.
    log: Log,
}

/// sled's own log file, a second time, to sync it.
struct Log(File);

impl Drop for Log {
    fn drop(&mut self) {
        lock::let_go(&self.0);
    }
}

impl Base {
    fn open(dir: &Path) -> Result<Base, OpenError> {
        let config = ::sled::Config::new().path(layout::data(dir)).cache_capacity(CACHE).segment_size(SEGMENT);
        let config = config.flush_every_ms(Some(UPKEEP));
        let log = layout::log(dir);
        // An opening that failed may have it still.
        if let Ok(log) = File::open(&log) {
            lock::let_go(&log);
        }
        let db = config.open().map_err(|error| OpenError::from_sled(dir, error))?;
        let file = File::options().read(true).write(true).open(&log);
        Ok(Base { db, log: Log(file.map_err(|source| OpenError::from_io(&log, source))?) })
    }

    /// `flush` brings sled's buffers to the file, and then the file is brought to the disk.
    fn sync(&self, disk: &dyn Disk) -> Result<(), ::sled::Error> {
        self.db.flush()?;
        failpoint!("store-flushed");
        disk.sync(&self.log.0).map_err(::sled::Error::Io)
    }
}

/// Gives sled the rounds that it may not have brought to the disk.
fn catch_up(dir: &Path, db: &::sled::Db) -> Result<(), OpenError> {
    let sled = |error| OpenError::from_sled(dir, error);
    let rounds = ahead::read(dir).map_err(|source| OpenError::from_io(&layout::data(dir), source))?;
    let meta = db.get(codec::META).map_err(sled)?.map(|meta| codec::decode(codec::META, &meta));
    let (Some(first), Some(last), Some(Ok(Entry::Meta(held)))) = (rounds.first(), rounds.last(), meta) else {
        return Ok(());
    };
    // What sled holds lies among them. Otherwise they are of an earlier time, or sled lost what came before them.
    if (first.from..=last.to).contains(&held.revision) {
        db.apply_batch(ahead::batch(rounds)).map_err(sled)?;
    }
    Ok(())
}

/// Reads everything, and makes sure that it is everything.
fn load(dir: &Path, db: &::sled::Db) -> Result<Snapshot, OpenError> {
    let damaged = |what: String| OpenError::Damaged { dir: dir.into(), source: what.into() };
    let mut state = Snapshot::new();
    let mut meta = None;
    for pair in db.iter() {
        let (key, value) = pair.map_err(|e| OpenError::from_sled(dir, e))?;
        match codec::decode(&key, &value).map_err(|e| OpenError::from_codec(dir, e))? {
            Entry::Meta(found) => meta = Some(found),
            Entry::Counter { prefix, last } => state.count(prefix.into(), last),
            // sled's page and the state share it.
            Entry::Record { key, held } => state.put(key, held),
        }
    }
    let meta = meta.ok_or_else(|| damaged("it holds no revision".into()))?;
    state.revision = meta.revision;
    let found = Meta::of(&state);
    if found != meta {
        return Err(damaged(format!("it should hold {meta}, but holds {found}")));
    }
    Ok(state)
}

struct Sled {
    /// sled, and what it has not got yet.
    behind: Behind,
    disk: Arc<dyn Disk>,
    ahead: Ahead,
    /// The revision that was last written.
    revision: u64,
    told: Told,
    reserve: u64,
    rounds: Option<Arc<dyn Rounds>>,
    dir: PathBuf,
    /// Let go of last, since fields are dropped in this order.
    _lock: Lock,
}

impl Journal for Sled {
    fn ready(&mut self) -> Result<(), JournalError> {
        let free = self.disk.free(self.ahead.file())?;
        if free >= self.reserve {
            return Ok(());
        }
        let mib = |bytes: u64| bytes / (1024 * 1024);
        Err(format!(
            "only {} MiB are free in {}, and {} MiB are kept in reserve: free some space there",
            mib(free),
            self.dir.display(),
            mib(self.reserve)
        )
        .into())
    }

    fn write(&mut self, state: &Snapshot, round: &Round) -> Result<(), JournalError> {
        let began = Instant::now();
        if self.ahead.is_full() {
            self.behind.turn()?;
            self.ahead.turn();
        }
        let written = written(self.revision, state, round);
        self.ahead.append(&written)?;
        failpoint!("round-written");
        self.disk.sync(self.ahead.file())?;
        failpoint!("round-synced");
        self.told.note(state.revision)?;
        self.revision = state.revision;
        self.behind.push(written);
        if let Some(rounds) = &self.rounds {
            rounds.written(round.batches.len(), began.elapsed());
        }
        Ok(())
    }
}

/// What a round does to sled's pairs. Records are those that the state holds: sled's pages share them
/// (`sled_and_the_state_share_what_a_record_takes`).
fn written(from: u64, state: &Snapshot, round: &Round) -> Written {
    let mut written = Written::new(from, state.revision);
    for change in round.batches.iter().flat_map(|batch| &batch.changes) {
        match change {
            Change::Put { kv, .. } => written.set_record(&kv.key, Some(kv.value.text.clone())),
            Change::Delete { prev } => written.set_record(&prev.key, None),
        }
    }
    for (prefix, last) in &round.counters {
        written.set(codec::counter_key(prefix), Some(codec::encode_counter(*last).into()));
    }
    written.set(codec::META, Some(Meta::of(state).encode().into()));
    written
}
