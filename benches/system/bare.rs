//! What cannot be cheaper: the keys of one connection, and one write that survives a power cut.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anweddol::wire::keys::Backend;
use anweddol::wire::{KeySize, Limits, PrivateKey, PublicKey};
use rustix::time::{ClockId, clock_gettime};

use crate::sample::Sample;
use crate::table::{Row, Table};
use crate::{Result, daemon};

/// Often enough that the median stands still.
const PAIRS: usize = 300;
const WRITES: usize = 300;
/// Between two writes, as between two claims.
pub(crate) const PAUSE: Duration = Duration::from_millis(3);

/// Measured before anything else.
pub(crate) struct Bare {
    /// The key of our side of every connection.
    pub(crate) key: Arc<PrivateKey>,
    /// One private and one public operation with RSA-4096: what each end of a connection has to do.
    pub(crate) pair: Sample,
    /// The processor time of the same.
    pub(crate) pair_cpu: Duration,
}

impl Bare {
    pub(crate) fn measure() -> Result<Bare> {
        let pem = PrivateKey::generate(KeySize::Bits4096)?;
        let key = Arc::new(PrivateKey::from_pem(&pem, Backend::default())?);
        let peer = PublicKey::from_pem(key.public_pem().as_bytes(), &Limits::default())?;
        let mut times = Vec::with_capacity(PAIRS);
        let before = thread_time();
        for _ in 0..PAIRS {
            let begin = Instant::now();
            let wrapped = peer.wrap(&[7; 64])?;
            key.unwrap(&wrapped)?;
            times.push(begin.elapsed());
        }
        let pair_cpu = (thread_time() - before) / PAIRS as u32;
        Ok(Bare { key, pair: Sample::of(times), pair_cpu })
    }

    /// What both ends of a connection have to do, one after the other.
    pub(crate) fn both_ends(&self) -> Duration {
        self.pair.p50() * 2
    }

    pub(crate) fn rows(&self, table: &mut Table) {
        let row = Row::new("bare: RSA-4096, one private + one public").times(&self.pair).cpu(self.pair_cpu);
        table.row(row.note("the same key objects as the server's; two of these are the keys of one connection"));
    }
}

/// Appends so many bytes, and waits each time until they survive a power cut.
pub(crate) fn flushed_writes(bytes: usize) -> Result<Sample> {
    let dir = tempfile::tempdir_in(daemon::scratch())?;
    let mut file = File::create(dir.path().join("log"))?;
    let block = vec![0x5a; bytes];
    let mut times = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        std::thread::sleep(PAUSE);
        let begin = Instant::now();
        file.write_all(&block)?;
        rustix::fs::fdatasync(&file)?;
        times.push(begin.elapsed());
    }
    Ok(Sample::of(times))
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
