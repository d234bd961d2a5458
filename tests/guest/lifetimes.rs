//! How long machines live: deadlines, idleness, and that a restart changes nothing of it.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::common::ask::{Grant, runtime, until_available};
use crate::common::daemon::Daemon;
use crate::common::log::{Event, events};
use crate::common::until;
use crate::host::{Host, execute, is_a_machine_of_its_user, log_in};
use crate::user::{LISTEN, User, log_in_by_key, new_key, write};

/// From a deadline until nothing is left, of a machine that is emulated on a busy processor.
const SECONDS: SignedDuration = SignedDuration::from_secs(15);

/// When a machine's end was announced, when its time was over, and when it was gone.
fn told(user: &User, grant: &Grant) -> [Timestamp; 3] {
    let lines = user.good(&["events", "-o", "json"]);
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    ["EXPIRING", "EXPIRED", "DESTROYED_CONTAINER"].map(|kind| {
        let ours = |event: &&Value| event["type"] == kind && event["details"]["container_uuid"] == grant.uuid.as_str();
        let event = events.iter().rfind(ours).unwrap_or_else(|| panic!("no {kind} in {lines}"));
        time(&event["at"])
    })
}

pub(crate) fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

/// The deadline that machine and claim are recorded with, if it is the same.
fn kept(user: &User, grant: &Grant) -> Option<Timestamp> {
    let container = user.object("container", &grant.uuid)?;
    let claim = user.object("claim", container["status"]["claim"].as_str()?)?;
    let at = &container["status"]["expiresAt"];
    (claim["status"]["expiresAt"] == *at).then(|| time(at))
}

/// It ends for this reason, and nothing is left of it; announced before, in time, and within seconds.
pub(crate) fn ends(host: &Host, daemon: &Daemon, user: &User, grant: &Grant, reason: &str, due: Option<Timestamp>) {
    let event = daemon.log.event_about("EXPIRED", &grant.uuid);
    assert_eq!(event.details["reason"], reason, "{event:?}");
    daemon.log.event_about("DESTROYED_CONTAINER", &grant.uuid);
    host.until_gone(grant);
    let [announced, over, gone] = told(user, grant);
    assert!(announced < over, "announced at {announced}, over at {over}");
    let due = due.unwrap_or(over);
    assert!(due <= over && gone.duration_since(due) < SECONDS, "due at {due}, over at {over}, gone at {gone}");
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_deadline_and_a_key_are_granted_extended_and_kept_through_kills_of_the_daemon() {
    let host = Host::lab();
    let home = host.home("max_ttl: 3600", "").arg(LISTEN);
    let daemon = home.start();
    let user = User::of(&host, &home);
    let key = host.dir.join("key");
    new_key(&key);
    let public = key.with_extension("pub");
    let mine = user.create(&["--ssh-key", public.to_str().unwrap(), "--ttl", "10m"]);
    assert_eq!(mine.data["container_ttl"], 600);
    let by_key = || log_in_by_key(&key, &mine.username, mine.port, "id -un");
    assert_eq!(by_key().trim(), mine.username);
    // Besides the password.
    is_a_machine_of_its_user(&mine);

    let first = time(&mine.data["container_expires_at"]);
    let later = time(&user.extend(&mine, "20m"));
    assert!(later.duration_since(first) >= SignedDuration::from_mins(10), "{first} became {later}");
    let deadline = until("the deadline moves", || kept(&user, &mine).filter(|at| *at >= later));
    assert!(user.refused(&["extend", &mine.uuid, "--ttl", "2h"]).contains("3600 s in all"));

    let runtime = runtime();
    let mut session = runtime.block_on(log_in(&mine));
    daemon.kill();
    assert_eq!(runtime.block_on(execute(&mut session, "echo while")), "while\n");
    let daemon = home.start();
    daemon.log.event_about("ADOPTED", &mine.uuid);
    assert_eq!(kept(&user, &mine), Some(deadline));
    assert_eq!(runtime.block_on(execute(&mut session, "echo after")), "after\n");
    assert_eq!(by_key().trim(), mine.username);

    // Shorter is another time too. It comes while nobody is there to end it, and somebody is logged in.
    let deadline = time(&user.extend(&mine, "10s"));
    daemon.log.event_about("EXPIRING", &mine.uuid);
    daemon.kill();
    until("the deadline", || (Timestamp::now() > deadline).then_some(()));
    assert!(host.machine(&mine.uuid).is_some(), "machines outlive a daemon that is killed");
    let daemon = home.start();
    ends(&host, &daemon, &user, &mine, "Expired", Some(deadline));
    assert!(user.refused(&["extend", &mine.uuid, "--ttl", "20m"]).contains("Bad authentication"));
    until_available(daemon.address, 6);
    daemon.stop();
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn an_open_session_keeps_a_machine_beyond_its_idle_timeout_and_not_beyond_its_close() {
    let host = Host::lab();
    let home = host.home("idle_timeout: 10", "").arg(LISTEN);
    let daemon = home.start();
    let user = User::of(&host, &home);
    let runtime = runtime();
    let used = user.create(&[]);
    let mut session = runtime.block_on(log_in(&used));
    // Made after the session was opened: when its time is over, that of the other one would be too.
    let idle = user.create(&[]);
    ends(&host, &daemon, &user, &idle, "Idle", None);
    assert_eq!(runtime.block_on(execute(&mut session, "echo here")), "here\n");
    assert!(user.object("container", &used.uuid).unwrap()["status"].get("idleSince").is_none());
    runtime.block_on(session.close());
    ends(&host, &daemon, &user, &used, "Idle", None);
    until_available(daemon.address, 6);
    daemon.stop();
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn machines_wished_for_as_objects_are_logged_in_to_and_end_at_their_deadline_or_deletion() {
    let host = Host::lab();
    let home = host.home("", "").arg(LISTEN);
    let daemon = home.start();
    let user = User::of(&host, &home);
    let (file, image) = (host.dir.join("objects.yaml"), host.kernel());
    let head = |kind: &str, name: &str| {
        format!("apiVersion: anweddol.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: ")
    };
    write(
        &file,
        &[
            format!("{}{{pool: default, ttlSeconds: 30}}", head("ContainerClaim", "short")),
            format!("{}{{pool: default}}", head("ContainerClaim", "mine")),
            format!("{}{{template: {{image: {image}}}}}", head("Container", "box")),
        ]
        .join("\n---\n"),
    );
    let file = file.to_str().unwrap();
    assert_eq!(user.good(&["apply", "-f", file]).lines().filter(|line| line.ends_with(" created")).count(), 3);
    daemon.log.until("the short one is bound", |lines| {
        let bound = |event: &Event| event.name == "BOUND_CLAIM" && event.details["claim"] == "short";
        events(lines).into_iter().find(bound)
    });
    let short = user.until_phase("claim", "short", "Bound");
    let end = user.login("claim/short");
    is_a_machine_of_its_user(&end);
    daemon.log.events("READY_CONTAINER", 3);
    user.until_phase("claim", "mine", "Bound");
    user.until_phase("container", "box", "Ready");
    let others = ["claim/mine", "container/box"].map(|object| user.login(object));
    others.iter().for_each(is_a_machine_of_its_user);

    ends(&host, &daemon, &user, &end, "Expired", Some(time(&short["status"]["expiresAt"])));
    // What somebody wrote stays, and says how it ended; what was there before goes on.
    user.until_phase("claim", "short", "Expired");
    others.iter().for_each(is_a_machine_of_its_user);

    user.good(&["delete", "-f", file, "--wait"]);
    others.iter().for_each(|other| host.until_gone(other));
    assert_eq!(user.good(&["get", "containers,claims", "-o", "name"]), "");
    until_available(daemon.address, 6);
    daemon.stop();
}
