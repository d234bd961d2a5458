//! What libvirt and QEMU keep of machines besides domains and overlays, and leave of those that are gone.
//!
//! In embedded mode all of it lies below a directory of ours alone, and a name is enough. The host's libvirt keeps the
//! files of everybody's machines in one place: there one is ours only if it says so itself.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use quick_xml::events::Event;
use quick_xml::{Reader, XmlVersion};
use uuid::Uuid;
use virt::connect::Connect;
use virt::error::ErrorNumber;

use super::dhcp;
use super::ffi::{self, Lease};
use super::{Libvirt, Mode, NatNetwork, failed, is};
use crate::child::Program;
use crate::error_chain;
use crate::hypervisor::{Hypervisor, HypervisorError, domain_name, xml};
use crate::model::{Listing, Mark, Trace, TraceKind, Whose};
use crate::plan::drift::{self, BEGINNING};

/// It takes a moment.
const IP: Program = Program { name: "ip", package: "iproute2", deadline: Duration::from_secs(10) };
/// As much of a file as tells whose it is: a command line, a domain's XML.
const HEAD: u64 = 64 << 10;
/// The host's libvirt has its places there.
const SYSTEM_LOGS: &str = "/var/log/libvirt/qemu";
const SYSTEM_LIB: &str = "/var/lib/libvirt/qemu";

impl Libvirt {
    fn log_dir(&self) -> PathBuf {
        match &self.config.mode {
            Mode::Embedded { root } => root.join("log/qemu"),
            Mode::System { .. } => SYSTEM_LOGS.into(),
        }
    }

    fn lib_dir(&self) -> PathBuf {
        match &self.config.mode {
            Mode::Embedded { root } => root.join("lib/qemu"),
            Mode::System { .. } => SYSTEM_LIB.into(),
        }
    }

    /// Whether everything in libvirt's places is of this installation.
    fn is_ours_alone(&self) -> bool {
        match &self.config.mode {
            Mode::Embedded { .. } => true,
            Mode::System { .. } => false,
        }
    }

    pub(super) fn all_traces(&self, instance: Uuid) -> Vec<Listing> {
        let mut listings = vec![
            Listing::new(TraceKind::Domain, self.unmarked()),
            Listing::new(TraceKind::Save, self.saved()),
            Listing::new(TraceKind::Log, self.logs(instance)),
        ];
        match &self.config.mode {
            Mode::Embedded { root } => listings.push(Listing::new(TraceKind::Socket, sockets(root))),
            Mode::System { network, .. } => {
                listings.push(Listing::new(TraceKind::Tap, taps(Path::new("/sys/class/net"), &network.bridge)));
                listings.push(Listing::new(TraceKind::Lease, self.leased(network)));
            }
        }
        listings
    }

    /// Domains that are called like ours and bear no mark.
    fn unmarked(&self) -> Result<Vec<Trace>, HypervisorError> {
        let seen = self.everybody(super::see)?;
        let like_ours = seen.into_iter().filter(|domain| domain.mark.is_none() && uuid_of(&domain.name).is_some());
        Ok(like_ours.map(drift::domain).collect())
    }

    fn saved(&self) -> io::Result<Vec<Trace>> {
        let mut traces = Vec::new();
        for dir in ["save", "nvram"] {
            for (uuid, file) in ours(&self.lib_dir().join(dir))? {
                let whose = match saved_mark(&self.lib_dir().join(dir).join(&file))? {
                    Some(mark) if mark.uid == uuid => Whose::Marked(mark),
                    Some(_) | None if self.is_ours_alone() => Whose::Machine(uuid),
                    Some(_) | None => Whose::Others("it does not say whose machine it was".into()),
                };
                traces.push(Trace::new(TraceKind::Save, format!("{dir}/{file}"), whose));
            }
        }
        Ok(traces)
    }

    fn logs(&self, instance: Uuid) -> io::Result<Vec<Trace>> {
        let mut files: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
        for (uuid, file) in ours(&self.log_dir())? {
            files.entry(uuid).or_default().push(file);
        }
        let mut traces = Vec::new();
        for (uuid, files) in files {
            let whose = match self.is_ours_alone() {
                true => Whose::Machine(uuid),
                // One that was rotated has its beginning in another file.
                false => files
                    .iter()
                    .try_fold(Logged::Unsaid, |said, file| {
                        Ok::<_, io::Error>(said.or(logged(&head(&self.log_dir().join(file))?, instance)))
                    })?
                    .whose(uuid),
            };
            traces.extend(files.into_iter().map(|file| Trace::new(TraceKind::Log, file, whose.clone())));
        }
        Ok(traces)
    }

    /// Leases of our network. One whose card is in a domain of somebody else's is theirs.
    fn leased(&self, network: &NatNetwork) -> Result<Vec<Trace>, HypervisorError> {
        // Before the cards: one that is new has none yet.
        let leases = self.network_leases(network)?;
        let cards: HashMap<String, Option<Mark>> = self
            .everybody(|domain| {
                let xml = domain.xml_desc(0)?;
                Ok((cards(&xml), xml::mark(&xml)))
            })?
            .into_iter()
            .flat_map(|(cards, mark)| cards.into_iter().map(move |card| (card, mark.clone())))
            .collect();
        let trace = |lease: Lease| {
            let whose = match cards.get(&lease.mac.to_ascii_lowercase()) {
                Some(Some(mark)) => Whose::Machine(mark.uid),
                Some(None) => Whose::Others("its card is in a domain that bears no mark".into()),
                None => Whose::Card(lease.mac.to_ascii_lowercase()),
            };
            Trace::new(TraceKind::Lease, named(&lease), whose)
        };
        Ok(leases.into_iter().map(trace).collect())
    }

    fn network_leases(&self, network: &NatNetwork) -> Result<Vec<Lease>, HypervisorError> {
        let leases = |connect: &Connect| ffi::network_leases(&connect.lookup_network_by_name(&network.name)?);
        self.link.call(leases).map_err(|error| failed("leases", Uuid::nil(), error))
    }

    /// Something of every domain that does not end meanwhile.
    fn everybody<T>(
        &self,
        look: impl Fn(&virt::domain::Domain) -> Result<T, virt::error::Error>,
    ) -> Result<Vec<T>, HypervisorError> {
        let all = |connect: &Connect| {
            let looks = connect.list_all_domains(0)?.into_iter().filter_map(|domain| match look(&domain) {
                Err(error) if is(&error, ErrorNumber::NoDomain) => None,
                looked => Some(looked),
            });
            looks.collect()
        };
        self.link.call(all).map_err(|error| failed("listing", Uuid::nil(), error))
    }

    pub(super) fn remove(&self, trace: &Trace) -> Result<(), HypervisorError> {
        let invalid =
            |reason: String| HypervisorError::Invalid { what: format!("{} {}", trace.kind, trace.name), reason };
        let removed = match (trace.kind, &self.config.mode) {
            (TraceKind::Save, _) => self.remove_file(&self.lib_dir(), &trace.name)?,
            (TraceKind::Log, _) => self.remove_file(&self.log_dir(), &trace.name)?,
            (TraceKind::Socket, Mode::Embedded { root }) => remove_any(&root.join(&trace.name)),
            (TraceKind::Tap, Mode::System { .. }) => match IP.run(&["link", "delete", "dev", &trace.name], "") {
                Ok(_) => Ok(()),
                Err(_) if !Path::new("/sys/class/net").join(&trace.name).exists() => Ok(()),
                Err(error) => return Err(invalid(error_chain(&error))),
            },
            (TraceKind::Lease, Mode::System { network, .. }) => {
                let leases = self.network_leases(network)?;
                match leases.iter().find(|lease| named(lease) == trace.name) {
                    Some(lease) => dhcp::release(&network.bridge, network.subnet.gateway(), lease),
                    None => Ok(()),
                }
            }
            _ => return Err(invalid("it is nothing that can be removed here".into())),
        };
        removed.map_err(|error| invalid(error.to_string()))
    }

    /// Removes a file that is named by a machine's UUID, unless its domain is there.
    fn remove_file(&self, dir: &Path, name: &str) -> Result<io::Result<()>, HypervisorError> {
        let file = name.rsplit('/').next().unwrap_or(name);
        let Some(uuid) = uuid_of(file) else { return Ok(Err(io::ErrorKind::InvalidInput.into())) };
        match self.find(uuid)? {
            None => Ok(remove_any(&dir.join(name))),
            Some(_) => Ok(Err(io::Error::other("its domain is there again"))),
        }
    }

    /// Removes the logs of a domain of ours that is gone.
    pub(super) fn remove_logs(&self, uuid: Uuid) {
        let removed = ours(&self.log_dir()).and_then(|logs| {
            let its = logs.into_iter().filter(|(found, _)| *found == uuid);
            its.map(|(_, file)| self.log_dir().join(file)).try_for_each(|path| remove_any(&path))
        });
        if let Err(error) = removed {
            tracing::warn!(domain = %uuid, %error, "a domain's log stays behind; a sweep tries again");
        }
    }
}

/// What a log says about whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Logged {
    Ours,
    Others,
    Unsaid,
}

impl Logged {
    fn or(self, other: Logged) -> Logged {
        if self == Logged::Unsaid { other } else { self }
    }

    fn whose(self, uuid: Uuid) -> Whose {
        match self {
            Logged::Ours => Whose::Machine(uuid),
            Logged::Others => Whose::Others("its machine was another installation's".into()),
            Logged::Unsaid => Whose::Others("it does not say whose machine it was".into()),
        }
    }
}

fn logged(head: &[u8], instance: Uuid) -> Logged {
    let text = String::from_utf8_lossy(head);
    match (text.contains(&xml::log_mark(instance)), text.contains(xml::LOG_MARK)) {
        (true, _) => Logged::Ours,
        (false, true) => Logged::Others,
        (false, false) => Logged::Unsaid,
    }
}

fn named(lease: &Lease) -> String {
    format!("{} of {}", lease.address, lease.mac)
}

/// Files that are called like a machine of ours, with its UUID. A directory that is not there has none.
fn ours(dir: &Path) -> io::Result<Vec<(Uuid, String)>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| in_place(dir, &error))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| in_place(dir, &error))?.file_name();
        if let Some(name) = name.to_str()
            && let Some(uuid) = uuid_of(name)
        {
            found.push((uuid, name.to_owned()));
        }
    }
    Ok(found)
}

fn in_place(place: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", place.display()))
}

/// The UUID in a name that begins like a domain's of ours.
fn uuid_of(name: &str) -> Option<Uuid> {
    let prefix = domain_name(Uuid::nil());
    let uuid = Uuid::parse_str(name.get(..prefix.len())?.get(prefix.len() - 36..)?).ok()?;
    name.strip_prefix(&domain_name(uuid)).filter(|rest| !rest.starts_with(|c: char| c.is_alphanumeric())).map(|_| uuid)
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut bytes)) {
        // It went meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map(|_| bytes).map_err(|error| in_place(path, &error)),
    }
}

/// The mark in the XML that libvirt saves with a domain's memory.
fn saved_mark(path: &Path) -> io::Result<Option<Mark>> {
    let head = head(path)?;
    let begin = head.windows(7).position(|window| window == b"<domain");
    let xml = begin.map(|begin| head[begin..].split(|byte| *byte == 0).next().unwrap_or_default());
    Ok(xml.and_then(|xml| xml::mark(&String::from_utf8_lossy(xml))))
}

/// What libvirt and QEMU have for a machine that runs, below an embedded libvirt's own directory.
fn sockets(root: &Path) -> io::Result<Vec<Trace>> {
    let mut traces = Vec::new();
    let run = root.join("run/qemu");
    for (uuid, file) in ours(&run)? {
        traces.push(Trace::new(TraceKind::Socket, format!("run/qemu/{file}"), Whose::Machine(uuid)));
    }
    for dir in ["lib/qemu", "lib/qemu/channel/target"] {
        let entries = match fs::read_dir(root.join(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(|error| in_place(&root.join(dir), &error))?,
        };
        for entry in entries {
            let name = entry?.file_name();
            if let Some(name) = name.to_str()
                && let Some(digits) = beginning_of(name)
            {
                traces.push(Trace::new(TraceKind::Socket, format!("{dir}/{name}"), Whose::Beginning(digits)));
            }
        }
    }
    Ok(traces)
}

/// The digits in `domain-17-anweddol-01234567-89`, libvirt's name for a domain's directory.
fn beginning_of(name: &str) -> Option<String> {
    let (number, domain) = name.strip_prefix("domain-")?.split_once('-')?;
    number.parse::<u32>().ok()?;
    let digits = domain.strip_prefix("anweddol-")?.replace('-', "");
    is_beginning(&digits).then_some(digits)
}

fn is_beginning(digits: &str) -> bool {
    digits.len() == BEGINNING && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Cards with names of ours. What is on no bridge of ours is somebody else's, whatever its name.
fn taps(net: &Path, bridge: &str) -> io::Result<Vec<Trace>> {
    let mut traces = Vec::new();
    for entry in fs::read_dir(net).map_err(|error| in_place(net, &error))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let Some(digits) = name.strip_prefix(&xml::cards(bridge)).filter(|digits| is_beginning(digits)) else {
            continue;
        };
        let on = fs::read_link(entry.path().join("master")).ok();
        let whose = match on.as_deref().and_then(Path::file_name) {
            Some(on) if on == bridge => Whose::Beginning(digits.to_owned()),
            Some(_) | None => Whose::Others(format!("it is not on the bridge {bridge}")),
        };
        traces.push(Trace::new(TraceKind::Tap, name, whose));
    }
    Ok(traces)
}

/// The addresses of a domain's cards.
fn cards(xml: &str) -> Vec<String> {
    let mut reader = Reader::from_str(xml);
    let mut found = Vec::new();
    loop {
        match reader.read_event() {
            Ok(Event::Start(element) | Event::Empty(element)) if element.name().as_ref() == "mac" => {
                let attribute = element.try_get_attribute("address").ok().flatten();
                let value = attribute
                    .and_then(|value| Some(value.normalized_value(XmlVersion::Implicit1_0).ok()?.to_ascii_lowercase()));
                found.extend(value);
            }
            Ok(Event::Eof) | Err(_) => return found,
            // Anything else is no card.
            Ok(_) => {}
        }
    }
}

/// Removes a file or a directory; what is gone already is no error.
fn remove_any(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|error| in_place(path, &error)),
    }
}
