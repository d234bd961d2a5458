//! What was acknowledged survives `kill -9`, whenever it comes.
//!
//! The child is this test program again: it writes with many tasks at once and tells every acknowledged write on
//! its standard output. The parent kills it, takes what is left in the pipe, and looks.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;

const DIR: &str = "ANWEDDOL_TEST_STORE";
const TASKS: usize = 48;
/// Acknowledgements to wait for before each kill; with 0 it comes while the store is being made or opened.
const KILLS: [usize; 12] = [0, 1, 50, 500, 0, 2_000, 10, 1_000, 0, 100, 3_000, 5];

#[test]
#[ignore = "not a test: the child of acknowledged_writes_survive_kill_9, which it starts (writes until it is killed)"]
fn writer() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    tell("opening");
    let store = open(Path::new(&dir));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let store = Arc::clone(&store);
        tasks.push(runtime.spawn(async move {
            let key = format!("task/{task}");
            let mut current = store.get(&key).unwrap().0;
            loop {
                let count = current.as_ref().map_or(0, |kv| text(kv).parse::<u64>().unwrap()) + 1;
                let cond = match &current {
                    Some(kv) => Cond::ModRev(key.clone(), kv.mod_rev),
                    None => Cond::Absent(key.clone()),
                };
                let ops = vec![put(&key, &count.to_string()), append("log/", &format!("{task} {count}"))];
                let done = store.txn(Txn { conds: vec![cond], ops }).await.unwrap();
                assert!(matches!(done, TxnResult::Committed(_)), "{done:?}");
                tell(&format!("ack {task} {count}"));
                current = store.get(&key).unwrap().0;
            }
        }));
    }
    runtime.block_on(futures::future::try_join_all(tasks)).unwrap();
}

/// One write call a line, so that a kill cuts no line in two.
fn tell(line: &str) {
    std::io::stdout().lock().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

fn text(kv: &store::Kv) -> &str {
    std::str::from_utf8(&kv.value).unwrap()
}

/// When a writer's time is over, and what is done then; afterwards it is killed.
pub(super) struct Until<'a> {
    /// After so many acknowledgements; 0 is while the store is being made or opened.
    pub(super) acks: usize,
    /// To its disk, say.
    pub(super) then: &'a dyn Fn(),
}

/// Runs the writer until then, and notes the last acknowledgement of every task.
pub(super) fn run(dir: &Path, until: Until<'_>, acked: &mut BTreeMap<usize, u64>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["kill::writer", "--exact", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = 0;
    let end = |child: &mut std::process::Child| {
        (until.then)();
        child.kill().unwrap();
    };
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if until.acks == 0 && line == "opening" {
            end(&mut child);
        }
        let Some((task, count)) = line.strip_prefix("ack ").and_then(|ack| ack.split_once(' ')) else { continue };
        acked.insert(task.parse().unwrap(), count.parse().unwrap());
        seen += 1;
        if seen == until.acks {
            end(&mut child);
        }
    }
    let status = child.wait().unwrap();
    assert!(!status.success(), "the writer came to an end: {status}");
}

pub(super) fn verify(dir: &Path, acked: &BTreeMap<usize, u64>) {
    let store = open(dir);
    let (log, revision) = store.list("log/").unwrap();
    let keys: Vec<String> = (1..=log.len() as u64).map(|n| number("log/", n)).collect();
    assert!(log.iter().map(|kv| &*kv.key).eq(&keys), "the log has a gap");
    assert!(log.iter().map(|kv| kv.mod_rev).eq(2..=revision), "a revision is missing");

    let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
    for kv in &log {
        let (task, count) = text(kv).split_once(' ').unwrap();
        let last = counts.entry(task.parse().unwrap()).or_default();
        assert_eq!(count.parse::<u64>().unwrap(), *last + 1, "task {task} lost a write");
        *last += 1;
    }
    for (task, count) in acked {
        assert!(counts.get(task) >= Some(count), "task {task} was told {count}, {:?} is there", counts.get(task));
    }
    for (task, count) in counts {
        let kv = store.get(&format!("task/{task}")).unwrap().0.unwrap();
        assert_eq!(text(&kv), count.to_string(), "half a transaction");
    }
}

#[test]
fn acknowledged_writes_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acked = BTreeMap::new();
    for kill_after in KILLS {
        run(dir.path(), Until { acks: kill_after, then: &|| {} }, &mut acked);
        verify(dir.path(), &acked);
    }
    assert_eq!(acked.len(), TASKS);
}
