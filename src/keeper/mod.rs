//! Keeps a directory of manifests applied.
//!
//! ```text
//! inotify ─┐
//! store   ─┼─► settle ─► scan ─► manifest::keep (PURE) ─► Objects: apply, prune ─► events
//! 30 s    ─┘
//! ```
//!
//! The directory says what has to be, at any time: what woke the keeper is a hint and never read. Files are only ever
//! read. What it may delete, and when, is [`crate::manifest::keep`]'s to decide.

pub mod files;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use inotify::{EventStream, Inotify, WatchMask};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::api::Objects;
use crate::api::objects::{Deletion, ObjectError, Outcome, Request, Terms, Verb};
use crate::manifest::Problem;
use crate::manifest::keep::{self, Keeping};
use crate::model::{Event, EventKind};
use crate::store::StoreError;

/// How often the directory is looked at without a hint: catches what hints missed.
const RESCAN: Duration = Duration::from_secs(30);
/// A change is looked at when it has been quiet for so long: editors and copies write in several steps.
const QUIET: Duration = Duration::from_millis(200);
/// But not later than this, for who writes all the time.
const MOST_PATIENCE: Duration = Duration::from_secs(3);
/// Who a directory's keeper is, among those who write fields.
const MANAGER: &str = "anweddol-manifests";
/// Bytes of inotify's events at once.
const BUFFER: usize = 4096;

/// Why a directory is not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// It is not there, or may not be read.
    #[error("manifests: directory '{}' cannot be read: make it, or name another with --manifests or 'manifests'", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Keeps one directory.
pub struct Keeper {
    directory: PathBuf,
    /// In the annotation of what it keeps: the directory's path, without links.
    name: String,
    objects: Arc<Objects>,
    /// Problems that were told and are still there.
    told: HashSet<Problem>,
}

impl Keeper {
    /// Of a directory that is there.
    pub fn new(directory: &Path, objects: Arc<Objects>) -> Result<Keeper, KeeperError> {
        let unreadable = |source| KeeperError::Unreadable { path: directory.into(), source };
        let directory = directory.canonicalize().map_err(unreadable)?;
        std::fs::read_dir(&directory).map_err(unreadable)?;
        let name = directory.display().to_string();
        Ok(Keeper { directory, name, objects, told: HashSet::new() })
    }

    /// Keeps it until cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut hints = Hints::new();
        let mut rewritten = self.objects.rewritten();
        loop {
            // Before it is read: what changes from here on wakes the next turn. Also after it was made anew.
            hints.watch(&self.directory);
            if let Err(error) = self.turn().await {
                tracing::warn!(error = crate::error_chain(&error), directory = self.name, "manifests");
            }
            let woken = tokio::select! {
                () = cancel.cancelled() => return,
                () = hints.next() => true,
                word = rewritten.next() => match word {
                    Some(Ok(())) => true,
                    // Too slow for the history: this turn looks at everything, as each does.
                    Some(Err(StoreError::Compacted { .. })) => {
                        rewritten = self.objects.rewritten();
                        true
                    }
                    Some(Err(_)) | None => return,
                },
                () = sleep(RESCAN) => false,
            };
            if woken {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = hints.settle() => {}
                }
                skip(&mut rewritten).await;
            }
        }
    }

    /// Looks at everything once, and makes it so.
    async fn turn(&mut self) -> Result<(), ObjectError> {
        let directory = self.directory.clone();
        let scan = tokio::task::spawn_blocking(move || files::scan(&directory)).await?;
        let Keeping { apply, prune, mut problems } = keep::keep(&self.name, &scan, &self.objects.present()?);
        let (keeper, manager) = (Some(self.name.clone()), Some(MANAGER.to_owned()));
        for located in apply {
            let terms = Terms { keeper: keeper.clone(), field_manager: manager.clone(), ..Terms::default() };
            let (object, body) = (located.manifest.object_ref(), located.manifest.to_json());
            let request = Request { terms, ..Request::new(object, Verb::Describe, body) };
            match self.objects.write(&request).await {
                Ok(written) if written.outcome == Outcome::Unchanged => {}
                Ok(written) => {
                    let object = located.manifest.object_ref();
                    tracing::info!(%object, outcome = ?written.outcome, manifest = %located.place, "manifests");
                }
                // Its end was wished for meanwhile; it is made again once it is gone.
                Err(ObjectError::Deleting { .. }) => {}
                Err(error @ (ObjectError::Record(_) | ObjectError::Task(_))) => return Err(error),
                Err(error) => {
                    let object = Some(located.manifest.object_ref());
                    let message = crate::error_chain(&error);
                    problems.push(Problem { place: located.place, object, field: String::new(), message });
                }
            }
        }
        let deletion = Deletion { keeper, ..Deletion::default() };
        for object in prune {
            match self.objects.delete(&object, &deletion).await {
                Ok(_) => tracing::info!(%object, directory = self.name, "manifests: deleted, its manifest is gone"),
                // Gone already, or taken over by another keeper meanwhile.
                Err(ObjectError::NotFound { .. } | ObjectError::Managed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.tell(problems).await
    }

    /// Tells the problems that are new. The others were told when they were.
    async fn tell(&mut self, problems: Vec<Problem>) -> Result<(), ObjectError> {
        let new: Vec<&Problem> = problems.iter().filter(|problem| !self.told.contains(problem)).collect();
        for problem in &new {
            tracing::warn!("manifest not applied: {problem}");
        }
        let events: Vec<Event> = new.into_iter().map(|problem| self.refused(problem)).collect();
        self.objects.tell(&events).await?;
        self.told = problems.into_iter().collect();
        Ok(())
    }

    fn refused(&self, problem: &Problem) -> Event {
        let event = self
            .objects
            .event(EventKind::RefusedManifest)
            .message(problem.to_string())
            .detail("file", problem.place.file.clone())
            .detail("document", problem.place.document)
            .detail("line", problem.place.line)
            .detail("field", problem.field.clone())
            .detail("reason", problem.message.clone());
        match &problem.object {
            Some(object) => event.regarding(object.clone()),
            None => event,
        }
    }
}

/// What was waiting was heard: one look answers all of it.
async fn skip(words: &mut (impl Stream<Item = Result<(), StoreError>> + Unpin)) {
    while let Ok(Some(Ok(()))) = timeout(Duration::ZERO, words.next()).await {}
}

/// Words from the file system that something changed. Without them, the regular look finds it.
struct Hints(Option<Pin<Box<EventStream<[u8; BUFFER]>>>>);

impl Hints {
    fn new() -> Self {
        match Inotify::init().and_then(|inotify| inotify.into_event_stream([0; BUFFER])) {
            Ok(stream) => Hints(Some(Box::pin(stream))),
            Err(error) => {
                tracing::warn!(%error, "manifests: no inotify; the directory is looked at every {} s", RESCAN.as_secs());
                Hints(None)
            }
        }
    }

    fn watch(&self, directory: &Path) {
        let mask = WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        if let Some(stream) = &self.0
            && let Err(error) = stream.watches().add(directory, mask)
        {
            tracing::debug!(%error, "manifests: no hints");
        }
    }

    async fn next(&mut self) {
        match &mut self.0 {
            Some(stream) => {
                if stream.next().await.is_none() {
                    self.0 = None;
                }
            }
            None => std::future::pending().await,
        }
    }

    /// Ends when it has been quiet for a moment.
    async fn settle(&mut self) {
        let deadline = Instant::now() + MOST_PATIENCE;
        while Instant::now() < deadline && timeout(QUIET, self.next()).await.is_ok() {}
    }
}
