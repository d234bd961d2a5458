//! What clients, users and guests do meanwhile. Everything that a client is told goes into the ledger before it does
//! anything else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anweddol::client::ClientError;
use anweddol::wire::{CREATE, EXTEND, Generation, Request};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::common::ask::{destroy_request, grant as granted, try_ask};
use crate::daemon::{MAX_TTL, TTL};
use crate::http;
use crate::ledger::{Grant, Holder, Known, Ledger, Wanted};
use crate::random::Random;

/// The pool besides the configuration's.
pub(crate) const SIDE: &str = "side";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Guests, whatever runs them.
pub(crate) trait Guests: Sync {
    /// Those that run, and when each was started.
    fn running(&self) -> BTreeMap<Uuid, Duration>;
    /// Ends one, from outside.
    fn kill(&self, uuid: Uuid);
}

/// What there is room and time for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    /// Memory that templates of the side pool ask for, in MiB.
    pub(crate) memory: [u64; 3],
    /// Machines that a pool keeps waiting are fewer.
    pub(crate) replicas: usize,
    /// The most machines of the side pool.
    pub(crate) side_most: u32,
    /// An actor waits for up to so many milliseconds before it acts again.
    pub(crate) pause: usize,
}

/// One daemon that serves, and everybody around it.
pub(crate) struct Scene<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) state: &'a Path,
    pub(crate) disk: &'a Path,
    pub(crate) guests: &'a dyn Guests,
    pub(crate) ledger: &'a Mutex<Ledger>,
    pub(crate) measure: Measure,
}

impl Scene<'_> {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// Acts until it is over.
    pub(crate) fn act(&self, mut random: Random, over: &AtomicBool) {
        while !over.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(random.below(self.measure.pause + 1) as u64));
            match random.below(22) {
                20.. => self.extend(&mut random),
                0..6 => drop(self.create(&mut random, &Map::new())),
                6..10 => self.destroy(&mut random),
                10..12 => self.claim(&mut random),
                12..15 => self.login(&mut random),
                15..17 => self.unclaim(&mut random),
                17 => self.kill(&mut random),
                18 => self.scale(&mut random),
                _ => drop(self.apply_side(&mut random)),
            }
        }
    }

    /// Asks for a machine of any pool, and for what else is given.
    pub(crate) fn create(&self, random: &mut Random, fixed: &Map<String, Value>) -> Option<Uuid> {
        let mut parameters = Map::new();
        if random.below(2) == 0 {
            parameters.insert("pool".into(), SIDE.into());
        }
        if random.below(4) == 0 {
            parameters.insert("ssh_public_key".into(), KEY.into());
        }
        parameters.extend(fixed.clone());
        match try_ask(self.address, Generation::Second, &Request::new(CREATE, parameters)) {
            Ok(response) if response.success => {
                let told = granted(&response);
                let uuid = told.uuid.parse().unwrap();
                self.told(uuid, Holder::Token(told.token), told.username, told.password, told.port, &told.data);
                return Some(uuid);
            }
            Ok(_) | Err(ClientError::NobodyThere { .. }) => {}
            Err(_) => self.ledger().cut_off += 1,
        }
        None
    }

    fn told(&self, uuid: Uuid, by: Holder, username: String, password: String, port: u16, data: &Map<String, Value>) {
        let mut ledger = self.ledger();
        let started = self.guests.running().get(&uuid).copied();
        ledger.grant(Grant { uuid, by, username, password, port, started, until: until(data) });
    }

    fn extend(&self, random: &mut Random) {
        let mut ledger = self.ledger();
        let held = ledger.granted.values().filter_map(|grant| match &grant.by {
            Holder::Token(token) if !ledger.extending.contains(&grant.uuid) => Some((grant.uuid, token.clone())),
            Holder::Token(_) | Holder::Claim(_) => None,
        });
        let held: Vec<(Uuid, String)> = held.collect();
        let Some((uuid, token)) = random.pick(&held).cloned() else { return };
        ledger.extending.insert(uuid);
        ledger.extensions += 1;
        let ttl = TTL + 60 * ledger.extensions;
        drop(ledger);
        let mut request = destroy_request(&uuid.to_string(), &token);
        request.verb = EXTEND.into();
        request.parameters.insert("ttl".into(), ttl.into());
        let response = try_ask(self.address, Generation::Second, &request);
        let mut ledger = self.ledger();
        ledger.extending.remove(&uuid);
        let Ok(response) = response else { return };
        if response.success {
            ledger.extended(uuid, until(&response.data));
        } else if ledger.granted.contains_key(&uuid) {
            ledger.refused(uuid, "EXTEND", &response.message);
        }
    }

    fn destroy(&self, random: &mut Random) {
        let ledger = self.ledger();
        let held = ledger.granted.values().filter_map(|grant| match &grant.by {
            Holder::Token(token) if !ledger.kept.contains(&grant.uuid) => Some((grant.uuid, token.clone())),
            Holder::Token(_) | Holder::Claim(_) => None,
        });
        let held: Vec<(Uuid, String)> = held.collect();
        drop(ledger);
        if let Some((uuid, token)) = random.pick(&held).cloned() {
            self.give_back(uuid, token);
        }
    }

    /// Gives a machine back by its token, as its client does.
    pub(crate) fn give_back(&self, uuid: Uuid, token: String) {
        let request = destroy_request(&uuid.to_string(), &token);
        let by = Holder::Token(token);
        let mut ledger = self.ledger();
        // Somebody else may have been faster.
        if ledger.granted.get(&uuid).is_none_or(|grant| grant.by != by) {
            return;
        }
        ledger.give_back(&by);
        drop(ledger);
        let Ok(response) = try_ask(self.address, Generation::Second, &request) else { return };
        let mut ledger = self.ledger();
        if response.success {
            ledger.acknowledged += 1;
            ledger.leaving.remove(&uuid);
            ledger.destroyed.insert(uuid);
        } else {
            ledger.refused(uuid, "DESTROY", &response.message);
        }
    }

    fn claim(&self, random: &mut Random) {
        let mut ledger = self.ledger();
        let name = format!("c{}", ledger.claims.len());
        let wanted = Wanted { known: Known::Asked, bound: None, login_asked: false };
        ledger.claims.insert(name.clone(), wanted);
        drop(ledger);
        let pool = if random.below(2) == 0 { SIDE } else { "default" };
        let mut spec = json!({ "pool": pool });
        if random.below(3) == 0 {
            spec["sshPublicKey"] = KEY.into();
        }
        let claim = manifest("ContainerClaim", &name, spec);
        match http::ask(self.state, "POST", "containerclaims", &claim) {
            Ok((201, _)) => self.know(&name, Known::There),
            Ok((code, status)) => panic!("a claim was answered with {code}: {status}"),
            Err(_) => {}
        }
    }

    fn know(&self, claim: &str, known: Known) {
        let mut ledger = self.ledger();
        ledger.acknowledged += 1;
        ledger.claims.get_mut(claim).expect("it was asked for").known = known;
    }

    fn one_of(&self, random: &mut Random, which: impl Fn(&Wanted) -> bool) -> Option<String> {
        let ledger = self.ledger();
        let names: Vec<&String> = ledger.claims.iter().filter(|(_, w)| which(w)).map(|(name, _)| name).collect();
        random.pick(&names).map(|name| (*name).clone())
    }

    fn login(&self, random: &mut Random) {
        let unread = |wanted: &Wanted| wanted.known == Known::There && !wanted.login_asked;
        let Some(name) = self.one_of(random, unread) else { return };
        match http::ask(self.state, "POST", &format!("containerclaims/{name}/login"), &Value::Null) {
            Ok((200, login)) => {
                let text = |field: &str| login[field].as_str().unwrap().to_owned();
                let port = login["port"].as_u64().unwrap().try_into().unwrap();
                let (uuid, holder) = (text("container").parse().unwrap(), Holder::Claim(name.clone()));
                self.told(uuid, holder, text("username"), text("password"), port, &Map::new());
            }
            // It is not bound yet, or somebody else was faster; it is still unread.
            Ok(_) => return,
            Err(_) => {}
        }
        self.ledger().claims.get_mut(&name).expect("it was there").login_asked = true;
    }

    fn unclaim(&self, random: &mut Random) {
        let Some(name) = self.one_of(random, |wanted| wanted.known == Known::There) else { return };
        let mut ledger = self.ledger();
        let wanted = ledger.claims.get_mut(&name).expect("it was there");
        // Somebody else may have begun.
        if wanted.known != Known::There {
            return;
        }
        wanted.known = Known::Leaving;
        ledger.give_back(&Holder::Claim(name.clone()));
        drop(ledger);
        match http::ask(self.state, "DELETE", &format!("containerclaims/{name}"), &Value::Null) {
            Ok((200 | 202, _)) => self.know(&name, Known::Gone),
            Ok((code, status)) => panic!("a deletion was answered with {code}: {status}"),
            Err(_) => {}
        }
    }

    fn kill(&self, random: &mut Random) {
        let mut ledger = self.ledger();
        let running = self.guests.running().into_iter();
        let machines: Vec<(Uuid, Duration)> = running.filter(|(uuid, _)| !ledger.kept.contains(uuid)).collect();
        if let Some((uuid, started)) = random.pick(&machines) {
            ledger.killed.insert(*uuid, *started);
            self.guests.kill(*uuid);
        }
    }

    fn scale(&self, random: &mut Random) {
        let pool = if random.below(2) == 0 { SIDE } else { "default" };
        let scale = json!({ "spec": { "replicas": random.below(self.measure.replicas) } });
        // Unanswered, it is done or not: either is a wish like any other.
        if let Ok((code, status)) = http::ask(self.state, "PUT", &format!("containerpools/{pool}/scale"), &scale) {
            assert!(matches!(code, 200 | 404 | 409), "a scale was answered with {code}: {status}");
        }
    }

    /// Makes the other pool, or changes its template.
    pub(crate) fn apply_side(&self, random: &mut Random) -> std::io::Result<()> {
        let Measure { memory, replicas, side_most, .. } = self.measure;
        let memory = format!("{}Mi", memory[random.below(memory.len())]);
        let lifetime = json!({ "ttlSeconds": TTL, "maxTtlSeconds": MAX_TTL });
        let template = json!({ "image": { "disk": { "path": self.disk } }, "memory": memory, "lifetime": lifetime });
        let (refill, replicas) = (json!({ "debounceMilliseconds": 0 }), random.below(replicas));
        let spec = json!({ "replicas": replicas, "maxContainers": side_most, "refill": refill, "template": template });
        let pool = manifest("ContainerPool", SIDE, spec);
        let (code, status) = http::ask(self.state, "PATCH", &format!("containerpools/{SIDE}"), &pool)?;
        assert!(matches!(code, 200 | 201), "a pool was answered with {code}: {status}");
        Ok(())
    }
}

/// Until when a machine lives, as an answer tells it.
fn until(data: &Map<String, Value>) -> Option<Timestamp> {
    data.get("container_expires_at").and_then(Value::as_str).map(|text| text.parse().unwrap())
}

fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "anweddol.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}
