//! The promises over the simulated world, where everything can be seen.

use std::collections::BTreeMap;
use std::path::Path;

use anweddol::model::{DomainState, Keepsake};
use anweddol::plan::container::in_use;
use uuid::Uuid;

use crate::faults::{Breach, Faults};
use crate::ledger::{Grant, Ledger};
use crate::promises::{Things, View};
use crate::world::Sight;

/// What has to hold at every moment.
pub(crate) fn always(view: &View, sight: &Sight, ledger: &Ledger, state: &Path) -> Faults {
    let mut faults = view.recorded(ledger, state);
    if sight.others.len() != 2 {
        faults.push(Breach::Foreign.of("a domain of somebody else, or its disk, is gone"));
    }
    for grant in ledger.granted.values().filter(|grant| !ledger.killed.contains_key(&grant.uuid)) {
        if let Err(what) = runs(grant, sight) {
            faults.push(Breach::Disturbed.of(format!("acknowledged machine {}: {what}", grant.uuid)));
        }
    }
    faults
}

/// What has to hold when there is nothing left to do.
pub(crate) fn settled(view: &View, sight: &Sight, ledger: &Ledger, state: &Path) -> Faults {
    let mut faults = always(view, sight, ledger, state);
    let ports: BTreeMap<u16, Uuid> = view.containers.values().map(|c| (c.spec.machine.port, c.uuid())).collect();
    let things = Things {
        domains: sight.domains.keys().copied().collect(),
        disks: sight.disks.clone(),
        forwards: sight.forwards.keys().copied().collect(),
    };
    faults.extend(view.leaked(&things));
    let mut same = |what: &str, same: bool, seen: &dyn std::fmt::Debug| {
        if !same {
            faults.push(Breach::Unrest.of(format!("{what}: {seen:?}, recorded are {:?}", view.containers.keys())));
        }
    };
    same("domains", things.domains.iter().eq(view.containers.keys()), &things.domains);
    same("forwards", sight.forwards == ports, &sight.forwards);
    same("disks", things.disks == view.on_disk(), &things.disks);
    same("ports", view.ports == ports, &view.ports);
    same("logins", view.credentials.len() == view.containers.len(), &view.credentials.keys());
    for (uuid, domain) in &sight.domains {
        let mark = domain.spec.as_ref().map(|spec| (spec.mark.instance, spec.mark.uid));
        if mark != Some((view.instance, *uuid)) {
            faults.push(Breach::Unrest.of(format!("domain {uuid} bears {mark:?}")));
        }
    }
    for (uuid, c) in &view.containers {
        let user = sight.domains.get(uuid).and_then(|domain| domain.user.as_ref());
        if user != view.credentials.get(&c.metadata.name).map(|credentials| &credentials.username) {
            faults.push(Breach::Unrest.of(format!("machine {uuid} is {:?} with user {user:?}", c.status.phase)));
        }
    }
    remembered(view, sight, &mut faults);
    faults.extend(view.rested(ledger));
    faults
}

/// Every machine in use would be found again by its domain, if the records were lost.
fn remembered(view: &View, sight: &Sight, faults: &mut Faults) {
    for (uuid, c) in view.containers.iter().filter(|(_, c)| in_use(c)) {
        let Some(domain) = sight.domains.get(uuid) else { continue };
        let claim = c.spec.claim.as_ref().and_then(|name| view.claims.get(name));
        let credentials = view.credentials.get(&c.metadata.name).cloned();
        let records = credentials.map(|credentials| Keepsake::of(c, claim, credentials));
        let kept = domain.spec.as_ref().zip(domain.keepsake.as_ref());
        let borne = kept.map(|(spec, kept)| Keepsake::read(&kept.text, &spec.mark));
        if !matches!((&borne, &records), (Some(Ok(borne)), Some(records)) if borne == records) {
            let what = format!("machine {uuid}: its domain bears {borne:?}, and recorded is {records:?}");
            faults.push(Breach::Unrest.of(what));
        }
    }
}

/// The machine of that client runs as they were told, and since then.
fn runs(grant: &Grant, sight: &Sight) -> Result<(), String> {
    if sight.forwards.get(&grant.port) != Some(&grant.uuid) {
        return Err("its port does not lead to it".into());
    }
    let domain = sight.domains.get(&grant.uuid).ok_or("its domain is gone")?;
    if domain.state != DomainState::Running || domain.user.as_ref() != Some(&grant.username) {
        return Err(format!("its domain is {:?} with user {:?}", domain.state, domain.user));
    }
    if grant.started.is_some_and(|started| started != domain.started) {
        return Err("its domain was started again".into());
    }
    Ok(())
}
