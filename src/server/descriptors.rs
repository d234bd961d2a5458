//! Open files: how many the process may have, and how many of them connections may take.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are not for wire clients: 512 connections of the API, 64 local ones, and as many again for the store, the
/// machines and the sessions on them. A store that cannot open a file fails, and the daemon with it.
const KEPT: u64 = 1152;

/// Lets the process open as many files as it ever may: where a service starts, that is often 1,024 of half a million.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!(%error, "the limit of open files stays");
    }
}

/// How many connections there are files for, if no more than this are wanted now.
pub(super) fn for_connections(wanted: usize) -> usize {
    let files = getrlimit(Resource::Nofile).current;
    let room = room(files);
    if room < wanted {
        tracing::warn!(
            wanted,
            room,
            files,
            "there are fewer connections than server.max_connections: the process may open too few files (LimitNOFILE, ulimit -n)"
        );
    }
    room
}

/// A quarter of the files at least.
fn room(files: Option<u64>) -> usize {
    let Some(files) = files else { return usize::MAX };
    usize::try_from(files.saturating_sub(KEPT).max(files / 4)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        for (files, is) in
            [(None, usize::MAX), (Some(524_288), 523_136), (Some(20_000), 18_848), (Some(1024), 256), (Some(0), 0)]
        {
            assert_eq!(room(files), is, "{files:?}");
        }
    }
}
