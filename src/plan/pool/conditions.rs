//! How a pool is, for people and for `kubectl wait`.

use jiff::{SignedDuration, Timestamp};

use super::{Crowd, Next, Outlook};
use crate::model::{Condition, PoolStatus, UpdateKind, set_condition};

/// As many are Ready as an update has to leave, and at least one where any are wished for.
const AVAILABLE: &str = "Available";
/// It comes nearer to what is wished for, or is there.
const PROGRESSING: &str = "Progressing";
/// Something keeps it from making members.
const DEGRADED: &str = "Degraded";
/// Its image is there, and all members are made from it.
const IMAGE_READY: &str = "ImageReady";

/// Reasons of Progressing that are no movement.
const COMPLETE: &str = "Complete";
const PAUSED: &str = "Paused";
/// The reason of Degraded that is none.
const HEALTHY: &str = "AsWished";
/// Reasons of Degraded that follow from the record and the image alone; any other was met by trying.
const BOOTS_FAIL: &str = "BootsFail";
const IMAGE_MISSING: &str = "ImageMissing";

/// Writes all conditions, and says when the progress deadline ends, if it runs.
pub(super) fn write(
    crowd: &Crowd<'_>,
    status: &mut PoolStatus,
    outlook: &Outlook<'_>,
    next: &Next,
    now: Timestamp,
) -> Option<Timestamp> {
    let trouble = trouble(crowd, status, outlook, next);
    let (reason, message) = trouble.clone().unwrap_or((HEALTHY.into(), String::new()));
    set_condition(&mut status.conditions, DEGRADED, trouble.is_some(), &reason, &message, now);
    image_ready(crowd, status, outlook, now);
    available(crowd, status, trouble.as_ref(), now);
    progressing(crowd, status, outlook, trouble.as_ref(), now)
}

type Trouble = (String, String);

/// What keeps it from making members that it lacks.
fn trouble(crowd: &Crowd<'_>, status: &PoolStatus, outlook: &Outlook<'_>, next: &Next) -> Option<Trouble> {
    if let Err(why) = outlook.image {
        return Some((IMAGE_MISSING.into(), why.into()));
    }
    if crowd.rising >= crowd.wanted {
        return None;
    }
    if let Some(hindrance) = outlook.hindrance {
        return Some((hindrance.reason.into(), hindrance.message.clone()));
    }
    if status.failures > 0 {
        let message = format!("{} members in a row failed: {}", status.failures, status.message);
        return Some((BOOTS_FAIL.into(), message));
    }
    // What the last attempt met stands until the next one.
    let met = |c: &&Condition| {
        c.kind == DEGRADED && c.status == "True" && ![IMAGE_MISSING, BOOTS_FAIL].contains(&c.reason.as_str())
    };
    let last = crowd.pool.status.conditions.iter().find(met).filter(|_| !matches!(next, Next::Make(_)))?;
    Some((last.reason.clone(), last.message.clone()))
}

fn image_ready(crowd: &Crowd<'_>, status: &mut PoolStatus, outlook: &Outlook<'_>, now: Timestamp) {
    let (ready, reason, message) = match outlook.image {
        Err(why) => (false, IMAGE_MISSING, why.to_owned()),
        Ok(sha256) => match crowd.of_other_image {
            0 => (true, "Hashed", format!("SHA-256 {sha256}")),
            n => (true, "ImageChanged", format!("SHA-256 {sha256}; {n} members are made from an earlier image")),
        },
    };
    set_condition(&mut status.conditions, IMAGE_READY, ready, reason, &message, now);
}

fn available(crowd: &Crowd<'_>, status: &mut PoolStatus, trouble: Option<&Trouble>, now: Timestamp) {
    let spec = &crowd.pool.spec;
    let (ready, replicas) = (status.ready_replicas, spec.replicas);
    let enough = replicas.saturating_sub(spec.update_strategy.max_unavailable.max(1)).max(replicas.min(1));
    let mut message = format!("{ready} of {replicas} are ready");
    let (there, reason) = if crowd.pool.metadata.deleting() {
        message = format!("it is being deleted: {} machines are claimed and end with their claims", crowd.claimed);
        (false, "Deleting")
    } else if replicas > spec.max_containers {
        message = format!("{message}: no more than maxContainers ({}) can ever be", spec.max_containers);
        (false, "MoreThanMaxContainers")
    } else if ready >= enough {
        (true, "EnoughReady")
    } else if spec.paused {
        (false, PAUSED)
    } else if let Some((reason, why)) = trouble {
        message = format!("{message}: {why}");
        (false, reason.as_str())
    } else if ready >= crowd.wanted {
        message = format!("{message}: the others' places are taken by claims (maxContainers {})", spec.max_containers);
        (false, "Claimed")
    } else {
        (false, "Filling")
    };
    set_condition(&mut status.conditions, AVAILABLE, there, reason, &message, now);
}

fn progressing(
    crowd: &Crowd<'_>,
    status: &mut PoolStatus,
    outlook: &Outlook<'_>,
    trouble: Option<&Trouble>,
    now: Timestamp,
) -> Option<Timestamp> {
    let spec = &crowd.pool.spec;
    let before = &crowd.pool.status;
    let rested = |c: &Condition| [COMPLETE, PAUSED].contains(&c.reason.as_str());
    let began = before.conditions.iter().find(|c| c.kind == PROGRESSING).is_none_or(rested);
    let set = |status: &mut PoolStatus, so, reason: &str, message: &str| {
        set_condition(&mut status.conditions, PROGRESSING, so, reason, message, now);
    };
    if spec.paused && !crowd.pool.metadata.deleting() {
        set(status, false, PAUSED, "it makes and takes nothing until spec.paused is false");
        return None;
    }
    let moves = match spec.update_strategy.kind {
        _ if status.replicas > crowd.wanted => "ScalingDown",
        UpdateKind::RollingUpdate if crowd.replaces() => "RollingUpdate",
        UpdateKind::Recreate if crowd.replaces() => "Recreate",
        // Whether its members are of the template, nobody can say.
        _ if outlook.image.is_err() => IMAGE_MISSING,
        _ if crowd.filled() => {
            set(status, true, COMPLETE, "");
            return None;
        }
        _ => "Filling",
    };
    let other =
        (before.observed_generation, &before.template_hash) != (status.observed_generation, &status.template_hash);
    let ahead = status.progressed_at.is_none_or(|at| at > now);
    if began || other || ahead || distance(status, crowd) < distance(before, crowd) {
        status.progressed_at = Some(now);
    }
    let patience = SignedDuration::from_secs(spec.progress_deadline_seconds.into());
    let deadline = status.progressed_at.and_then(|at| at.checked_add(patience).ok())?;
    let numbers = format!(
        "{} of {} are ready, {} of {} of this template",
        status.ready_replicas, crowd.wanted, status.updated_replicas, status.replicas
    );
    if deadline > now {
        set(status, true, moves, &numbers);
        return Some(deadline);
    }
    let why = trouble.map(|(_, why)| format!(": {why}")).unwrap_or_default();
    let message = format!("{moves} made no progress for {} s; {numbers}{why}", patience.as_secs());
    set(status, false, "ProgressDeadlineExceeded", &message);
    None
}

/// How far these numbers are from what is wished for.
fn distance(status: &PoolStatus, crowd: &Crowd<'_>) -> u32 {
    let outdated = match crowd.pool.spec.update_strategy.kind {
        UpdateKind::OnReplenish => 0,
        UpdateKind::RollingUpdate | UpdateKind::Recreate => status.replicas.saturating_sub(status.updated_replicas),
    };
    crowd.wanted.saturating_sub(status.ready_replicas) + status.replicas.saturating_sub(crowd.wanted) + outdated
}
