//! Whether records agree with each other. Pure: over one snapshot of them, whoever took it.
//!
//! | between | what holds after every transaction |
//! | --- | --- |
//! | key and record | a record can be read as what its key says, and bears the name that its key has |
//! | container and port | each container holds its own port, and no port is held for anybody else |
//! | container and credentials | each container has a login, and no login is without container |
//! | container and claim | a bound container and its claim name each other, and no two claims one container |
//! | container and UUID | no two containers have the same one |
//! | pool and container | `status.containers` counts the pool's containers |
//! | events | numbers follow each other without a gap |
//! | access tokens | no two have the same text |
//! | tokens, objects of Kubernetes' own kinds | each is an object; what is in them is between their writers |
//!
//! A container without pool that has ended and given everything back holds neither port nor credentials. Histories at
//! random keep all of it (`operator::tests`, at every moment), and `each_rule_finds_what_breaks_it` breaks each rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::records::{
    self, ACCESS_TOKENS, ADMISSION, CLOCK, EVENTS, FOREIGN_EVENTS, INSTANCE, PLAIN, REGISTRY, SEALED, SECRETS, TOKENS,
    UNCOUNTED,
};
use super::{Contents, Kv};
use crate::model::{
    AccessToken, ClaimPhase, Container, ContainerClaim, ContainerPool, Credentials, Event, Kind, Object, ObjectRef,
    Phase,
};
use crate::plan::clock::Anchor;
use crate::plan::container::released;

/// A record that does not agree with the others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Its key.
    pub key: String,
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' {}; right would be {}", self.key, self.wrong, self.right)
    }
}

/// Everything that does not agree in a store's records, in the order of their keys.
pub fn check(records: &[Kv]) -> Vec<Finding> {
    let mut check = Check::default();
    let known: Known = records.iter().fold(Known::default(), |known, kv| check.read(known, kv));
    check.containers(&known);
    check.ports(&known);
    check.credentials(&known);
    check.claims(&known);
    check.pools(&known);
    check.access_tokens(&known);
    check.events(&known);
    check.findings.sort();
    check.findings
}

/// The same over everything that a store holds: what only it can tell besides is how far it and its logs are.
pub fn check_all(contents: &Contents) -> Vec<Finding> {
    let mut check = Check { findings: check(&contents.records) };
    let revision = contents.revision;
    for Kv { key, create_rev, mod_rev, .. } in &contents.records {
        if create_rev > mod_rev || *mod_rev > revision {
            let wrong = format!("was made at revision {create_rev} and written at {mod_rev}, of {revision}");
            check.find(key, wrong, "revisions in this order");
        }
        let (prefix, number) = key.split_at(key.rfind('/').map_or(0, |at| at + 1));
        let last = contents.logs.get(prefix).copied().unwrap_or(0);
        if prefix == EVENTS && number.parse().is_ok_and(|number: u64| number > last) {
            check.find(key, format!("comes after the log's last number, {last}"), "a number up to that");
        }
    }
    check.findings.sort();
    check.findings
}

/// The records by what they are.
#[derive(Default)]
struct Known {
    containers: Vec<Container>,
    pools: Vec<ContainerPool>,
    claims: Vec<ContainerClaim>,
    access_tokens: Vec<AccessToken>,
    /// Whose, by key.
    credentials: BTreeMap<String, (String, String)>,
    ports: BTreeMap<u16, Uuid>,
    events: Vec<u64>,
}

#[derive(Default)]
struct Check {
    findings: Vec<Finding>,
}

impl Check {
    fn find(&mut self, key: impl AsRef<str>, wrong: impl Into<String>, right: impl Into<String>) {
        self.findings.push(Finding { key: key.as_ref().into(), wrong: wrong.into(), right: right.into() });
    }

    fn read(&mut self, mut known: Known, kv: &Kv) -> Known {
        let key = &*kv.key;
        if let Some(object) = records::parse_key(key) {
            match object.kind {
                Kind::Container => known.containers.extend(self.object(&object, kv)),
                Kind::ContainerPool => known.pools.extend(self.object(&object, kv)),
                Kind::ContainerClaim => known.claims.extend(self.object(&object, kv)),
            }
        } else if let Some((namespace, name)) = credentials_of(key) {
            if self.decode::<Credentials>(kv).is_some() {
                known.credentials.insert(key.into(), (namespace.into(), name.into()));
            }
        } else if let Some(port) = below(key, REGISTRY, "ports/").and_then(|port| port.parse().ok()) {
            if let Some(holder) = self.decode(kv) {
                known.ports.insert(port, holder);
            }
        } else if let Some(number) = key.strip_prefix(EVENTS).and_then(|number| number.parse().ok()) {
            known.events.push(number);
            self.decode::<Event>(kv);
        } else if let Some(name) = key.strip_prefix(ACCESS_TOKENS) {
            if let Some(token) = self.decode::<AccessToken>(kv) {
                if token.name != name {
                    self.find(key, format!("holds '{}'", token.name), format!("'{name}'"));
                }
                known.access_tokens.push(token);
            }
        } else if key.starts_with(SECRETS) && kv.value.starts_with(SEALED.as_bytes()) {
            // Whether it opens, only who has the key can tell.
        } else if [TOKENS, PLAIN, FOREIGN_EVENTS].iter().any(|prefix| key.starts_with(prefix)) {
            self.decode::<Map<String, Value>>(kv);
        } else {
            match key {
                INSTANCE | ADMISSION | UNCOUNTED => drop(self.decode::<Uuid>(kv)),
                CLOCK => drop(self.decode::<Anchor>(kv)),
                _ => self.find(key, "is no key of this program", "a store without it"),
            }
        }
        known
    }

    fn decode<T: DeserializeOwned>(&mut self, kv: &Kv) -> Option<T> {
        match serde_json::from_slice(&kv.value) {
            Ok(read) => Some(read),
            Err(error) => {
                self.find(&kv.key, format!("cannot be read: {error}"), "a record of what its key says");
                None
            }
        }
    }

    fn object<T: Object>(&mut self, named: &ObjectRef, kv: &Kv) -> Option<T> {
        let object: T = self.decode(kv)?;
        let own = object.object_ref();
        if own != *named {
            self.find(&kv.key, format!("holds {own}"), format!("{named}"));
        }
        Some(object)
    }

    fn containers(&mut self, known: &Known) {
        let mut seen: BTreeMap<Uuid, String> = BTreeMap::new();
        for c in &known.containers {
            let key = records::key(&c.object_ref());
            if let Some(other) = seen.insert(c.uuid(), key.clone()) {
                self.find(&key, format!("has the UUID of '{other}'"), "a UUID of its own");
            }
            if released(c) {
                continue;
            }
            let port = c.spec.machine.port;
            match known.ports.get(&port) {
                Some(holder) if *holder == c.uuid() => {}
                Some(holder) => {
                    self.find(&key, format!("has port {port}, which is held for {holder}"), "a port held for it");
                }
                None => self.find(&key, format!("has port {port}, which is not held"), records::port_key(port)),
            }
            let login = records::credentials_key(&c.metadata.namespace, &c.metadata.name);
            if !known.credentials.contains_key(&login) {
                self.find(&key, "has no credentials", login);
            }
            self.bound(&key, c, known);
        }
    }

    fn bound(&mut self, key: &str, c: &Container, known: &Known) {
        if c.status.phase != Phase::Bound || c.metadata.deleting() {
            return;
        }
        let Some(name) = &*c.spec.claim else {
            return self.find(key, "is bound to no claim", "the name of its claim in spec.claim");
        };
        let its =
            |claim: &&ContainerClaim| claim.metadata.namespace == c.metadata.namespace && claim.metadata.name == *name;
        match known.claims.iter().find(its) {
            None => self.find(key, format!("is bound to claim '{name}', which is not there"), "a claim that names it"),
            Some(claim) if claim.status.container.as_ref() != Some(&c.metadata.name) => {
                self.find(key, format!("is bound to claim '{name}', which does not name it"), "a claim that names it");
            }
            Some(_) => {}
        }
    }

    fn ports(&mut self, known: &Known) {
        for (port, holder) in &known.ports {
            let its = |c: &Container| c.uuid() == *holder && c.spec.machine.port == *port && !released(c);
            if !known.containers.iter().any(its) {
                let wrong = format!("is held for {holder}, and no container of that UUID has it");
                self.find(records::port_key(*port), wrong, "a free port");
            }
        }
    }

    fn credentials(&mut self, known: &Known) {
        let owners: BTreeSet<(&str, &str)> = known.containers.iter().filter(|c| !released(c)).map(name_of).collect();
        for (key, (namespace, name)) in &known.credentials {
            if !owners.contains(&(namespace.as_str(), name.as_str())) {
                self.find(key, "are of no container", "none");
            }
        }
    }

    fn claims(&mut self, known: &Known) {
        let mut named: BTreeMap<(&str, &str), String> = BTreeMap::new();
        for claim in known.claims.iter().filter(|claim| claim.status.phase == ClaimPhase::Bound) {
            let key = records::key(&claim.object_ref());
            let Some(container) = &claim.status.container else {
                self.find(key, "is Bound to no container", "the name of one in status.container");
                continue;
            };
            let place = (claim.metadata.namespace.as_str(), container.as_str());
            match known.containers.iter().find(|c| name_of(c) == place) {
                None => {
                    self.find(&key, format!("is Bound to '{container}', which is not there"), "Lost, or its container")
                }
                Some(c) if c.spec.claim.as_ref() != Some(&claim.metadata.name) => {
                    self.find(
                        &key,
                        format!("is Bound to '{container}', which is another claim's"),
                        "a container of its own",
                    );
                }
                Some(_) => {}
            }
            if let Some(other) = named.insert(place, key.clone()) {
                self.find(&key, format!("is Bound to '{container}', as is '{other}'"), "a container of its own");
            }
        }
    }

    fn access_tokens(&mut self, known: &Known) {
        let mut seen = BTreeMap::new();
        for AccessToken { name, sha256, .. } in &known.access_tokens {
            if let Some(other) = seen.insert(sha256.as_str(), name) {
                self.find(records::access_token_key(name), format!("has the text of '{other}'"), "a text of its own");
            }
        }
    }

    fn pools(&mut self, known: &Known) {
        for pool in &known.pools {
            let (namespace, name) = (&pool.metadata.namespace, &pool.metadata.name);
            let member = |c: &&Container| c.metadata.namespace == *namespace && c.spec.pool.as_deref() == Some(name);
            let (counted, are) = (pool.status.containers, known.containers.iter().filter(member).count());
            if counted as usize != are {
                let wrong = format!("counts {counted} containers in status.containers");
                self.find(records::key(&pool.object_ref()), wrong, are.to_string());
            }
        }
    }

    fn events(&mut self, known: &Known) {
        for pair in known.events.windows(2) {
            if pair[1] != pair[0] + 1 {
                let wrong = format!("comes after number {}", pair[0]);
                self.find(format!("{EVENTS}{:020}", pair[1]), wrong, "a log without a gap");
            }
        }
    }
}

fn name_of(c: &Container) -> (&str, &str) {
    (&c.metadata.namespace, &c.metadata.name)
}

fn below<'a>(key: &'a str, registry: &str, what: &str) -> Option<&'a str> {
    key.strip_prefix(registry)?.strip_prefix(what)
}

fn credentials_of(key: &str) -> Option<(&str, &str)> {
    below(key, REGISTRY, "credentials/")?.split_once('/')
}

#[cfg(test)]
mod tests;
