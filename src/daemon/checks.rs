//! The facts that [`crate::plan::checks`] judges, gathered from this host and the configuration. Permissions are those of
//! the user who asks.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::api::Digests;
use crate::config::{self, Config, Mode};
use crate::error_chain;
use crate::guest::forward::nft::FAMILIES;
use crate::host::local::{self, LocalHost};
use crate::host::{Host as _, firewall, kernel, programs};
use crate::hypervisor::account::{Account, Want};
use crate::hypervisor::libvirt::{self, Libvirt};
use crate::hypervisor::xml::Accelerator;
use crate::hypervisor::{accel, boot};
use crate::model::{Image, Memory};
use crate::plan::checks::host::{Host, Listen};
use crate::plan::checks::machines::{Boots, Machines, Way};
use crate::plan::checks::network::Network;
use crate::plan::checks::storage::{ImageFile, StateDir, Storage};
use crate::plan::checks::{Check, Facts, Seen, Status, judge};
use crate::privilege;
use crate::server::https::AUTHORITY;
use crate::unwrapped::clock_is_synchronised;

use super::ServeError;

/// The name of our tables.
const TABLE: &str = "anweddol";
/// What system mode runs, with the packages that bring it.
const PROGRAMS: [(&str, &str); 3] = [("nft", "nftables"), ("ip", "iproute2"), ("conntrack", "conntrack")];
/// The same of libvirtd, which looks in more places.
const LIBVIRT_PROGRAMS: [(&str, &str); 1] = [("dnsmasq", "dnsmasq-base")];
/// The longest list of sums that is read.
const MOST_SUMS: u64 = 64 << 10;

/// How closely a host is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// As far as it takes no time.
    Start,
    /// Images are read, and libvirtd is asked.
    Doctor,
    /// And QEMU is started: by a libvirt that asks what it can do, which takes a while, and with guests.
    Guests,
}

/// Looks at this host. `serves`: a daemon of this configuration runs. `ahead`: see [`Host::ahead`].
pub fn look(config: &Config, depth: Depth, serves: bool, ahead: Option<i64>) -> Vec<Check> {
    let image = config.template().image;
    judge(&facts(config, config.hypervisor.mode, &image, &Looking { depth, serves, ahead }))
}

/// Ends a start that leads nowhere; what is not as it should be otherwise is said in the log.
pub(super) fn refuse_unfit(config: &Config, mode: Mode, image: &Image) -> Result<(), ServeError> {
    let looking = Looking { depth: Depth::Start, serves: false, ahead: None };
    let checks = judge(&facts(config, mode, image, &looking));
    let (stops, rest): (Vec<Check>, Vec<Check>) = checks.into_iter().partition(|check| check.stops);
    if !stops.is_empty() {
        let what: Vec<String> = stops.iter().map(Check::to_string).collect();
        return Err(ServeError::Unfit { what: what.join("; ") });
    }
    for Check { name, message, remedy, .. } in rest.iter().filter(|check| check.status != Status::Ok) {
        tracing::warn!(check = name, remedy, "{message}");
    }
    Ok(())
}

/// How machines are run, and why. System mode needs `CAP_NET_ADMIN` (for nftables) and a libvirtd that answers; embedded mode needs
/// neither.
pub(super) fn way(config: &Config, mode: Mode) -> (Way, &'static str) {
    match mode {
        Mode::Embedded => (Way::Embedded, "as 'hypervisor.mode' says"),
        Mode::System => (Way::System, "as 'hypervisor.mode' says"),
        Mode::Auto if !privilege::may_administer_networks() => {
            (Way::Embedded, "this user is not root, nor has CAP_NET_ADMIN")
        }
        // Its machines would be lost from sight.
        Mode::Auto if config.state_dir.join("embed").exists() => {
            (Way::Embedded, "the state directory has machines of that mode")
        }
        Mode::Auto if libvirt::system_answers() => (Way::System, "this user may use nftables, and libvirtd answers"),
        Mode::Auto => (Way::Embedded, "no libvirtd answers"),
    }
}

struct Looking {
    depth: Depth,
    serves: bool,
    ahead: Option<i64>,
}

fn facts(config: &Config, mode: Mode, image: &Image, looking: &Looking) -> Facts {
    let (way, why) = way(config, mode);
    let root = rustix::process::geteuid().is_root();
    // Who runs QEMU, where that is another user.
    let account = match (way, root) {
        (Way::System, _) | (Way::Embedded, true) => Account::of_qemu(),
        (Way::Embedded, false) => None,
    };
    Facts {
        machines: machines(config, way, why, account.as_ref(), image, looking),
        network: (way == Way::System).then(|| network(config, looking)),
        storage: storage(config, account.as_ref(), image, looking),
        // Whoever binds a port for a moment keeps its clients from it.
        host: (looking.depth != Depth::Start).then(|| host(config, looking)),
    }
}

fn machines(
    config: &Config,
    way: Way,
    why: &str,
    account: Option<&Account>,
    image: &Image,
    looking: &Looking,
) -> Machines {
    let shown = |path: Option<PathBuf>| path.map(|path| path.display().to_string());
    let accelerator = accel::probe(account);
    let choice = accel::decide(&accelerator);
    let boots = || Boots {
        emulated: boot::run(Accelerator::Tcg).map(|time| time.as_millis()),
        kvm: (accelerator.device != accel::Device::Missing)
            .then(|| boot::run(Accelerator::Kvm).map(|time| time.as_millis())),
    };
    Machines {
        way,
        why: why.into(),
        qemu: shown(programs::find("qemu-system-x86_64")),
        qemu_img: shown(programs::find("qemu-img")),
        disks: matches!(image, Image::Disk { .. }),
        libvirt: asked(config, way, looking),
        driver: shown(programs::libvirt_driver()),
        driver_places: programs::driver_places(),
        kvm: choice.accelerator == Accelerator::Kvm,
        kvm_reason: choice.reason,
        wanted: config.container.domain_type,
        boots: (looking.depth == Depth::Guests).then(boots),
    }
}

/// One inside this process is opened where none was before, in a directory that goes; elsewhere it has an owner, or who
/// compares the records opens it.
fn asked(config: &Config, way: Way, looking: &Looking) -> Option<Seen<String>> {
    match (way, looking.depth) {
        (_, Depth::Start) | (Way::Embedded, Depth::Doctor) => None,
        (Way::System, Depth::Doctor | Depth::Guests) => Some(libvirt::system_version()),
        (Way::Embedded, Depth::Guests) => {
            let owned = looking.serves || super::store_path(&config.state_dir).exists();
            (!owned).then(scratch_libvirt)
        }
    }
}

fn scratch_libvirt() -> Seen<String> {
    let dir = tempfile::Builder::new().prefix("anw").permissions(fs::Permissions::from_mode(0o711)).tempdir();
    let dir = dir.map_err(|error| format!("no scratch directory can be made: {error}"))?;
    let libvirt =
        Libvirt::connect(libvirt::Config::embedded(dir.path().join("e"))).map_err(|error| error_chain(&error))?;
    Ok(libvirt.version().to_owned())
}

fn network(config: &Config, looking: &Looking) -> Network {
    let missing = PROGRAMS.into_iter().filter(|(name, _)| programs::find(name).is_none());
    let theirs = LIBVIRT_PROGRAMS.into_iter().filter(|(name, _)| programs::find_for_libvirt(name).is_none());
    let bridge = config.hypervisor.bridge.clone();
    Network {
        missing: missing.chain(theirs).collect(),
        subnet: config.hypervisor.subnet,
        routes: kernel::routes(),
        drops: firewall::drops(TABLE, &bridge),
        tables: firewall::has_tables(TABLE, &FAMILIES),
        forwards: kernel::forwards(),
        serves: looking.serves,
        bridge,
    }
}

fn storage(config: &Config, account: Option<&Account>, image: &Image, looking: &Looking) -> Storage {
    let dir = &config.state_dir;
    let reserve = config.host.disk_reserve.unwrap_or(config::DISK_RESERVE).bytes();
    let disk = LocalHost::new(0, Some((existing(dir), reserve)));
    Storage {
        user: user(),
        dir: dir.display().to_string(),
        state: state(dir),
        image: image.files().into_iter().map(|path| image_file(path, account, looking.depth)).collect(),
        free: disk.capacity().map(|capacity| capacity.disk_free).map_err(|error| error.to_string()),
        reserve,
    }
}

/// The part of a path that is there.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|part| part.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn user() -> String {
    let uid = rustix::process::geteuid();
    if uid.is_root() { "root".into() } else { format!("the user with the number {}", uid.as_raw()) }
}

fn state(dir: &Path) -> StateDir {
    let about = match fs::metadata(dir) {
        Ok(about) if about.is_dir() => about,
        Ok(_) => return StateDir::Wrong("it is no directory".into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let may_make = access(existing(dir), Access::WRITE_OK | Access::EXEC_OK).is_ok();
            return StateDir::Missing { may_make };
        }
        Err(error) => return StateDir::Wrong(error.to_string()),
    };
    let is_open = |path: &PathBuf| fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o077 != 0);
    let secrets = [super::key_path(dir), super::seal_path(dir), dir.join(AUTHORITY)];
    StateDir::There {
        mode: about.permissions().mode() & 0o7777,
        writable: access(dir, Access::WRITE_OK | Access::EXEC_OK).is_ok(),
        open: secrets.into_iter().filter(is_open).map(|path| path.display().to_string()).collect(),
    }
}

fn image_file(path: &Path, account: Option<&Account>, depth: Depth) -> ImageFile {
    let unreadable = match fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(about) if about.is_file() => None,
        Ok(_) => Some("it is no regular file".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    let closed = account.and_then(|account| {
        let part = account.obstacle(path, Want::Read).ok()??;
        Some((account.name.clone(), part.display().to_string()))
    });
    let as_built = if depth == Depth::Start || unreadable.is_some() { None } else { as_built(path) };
    ImageFile { path: path.display().to_string(), unreadable, closed, as_built }
}

/// Whether a file is as the sums beside it say; `None` if there are none of it.
fn as_built(path: &Path) -> Option<bool> {
    let (dir, name) = (path.parent()?, path.file_name()?.to_str()?);
    let sums = dir.join(Image::SUMS);
    if fs::metadata(&sums).ok()?.len() > MOST_SUMS {
        return None;
    }
    let text = fs::read_to_string(sums).ok()?;
    let sum = text.lines().find_map(|line| line.split_once("  ").filter(|(_, of)| *of == name))?.0.to_owned();
    let is = Digests::default().sha256(&Image::Iso(path.into())).ok()?;
    Some(*is == *sum)
}

fn host(config: &Config, looking: &Looking) -> Host {
    let (server, ports) = (&config.server, config.port_forwarding.range.ports());
    let listens = [
        ("server.listen", Some(server.listen)),
        ("server.health_listen", server.health_listen),
        ("server.api_listen", server.api_listen),
        ("web.listen", config.web.address()),
    ];
    Host {
        listens: listens.into_iter().filter_map(|(key, address)| listen(key, address?)).collect(),
        serves: looking.serves,
        range: (*ports.start(), *ports.end()),
        taken: kernel::listeners(ports.clone()),
        ephemeral: kernel::ephemeral(),
        reserved: kernel::is_reserved(ports),
        most: config.container.max_allowed_running_containers,
        memory: match config.host.memory.map(Memory::bytes) {
            Some(memory) => Ok(memory),
            None => local::memory_for_machines().map_err(|error| error.to_string()),
        },
        each: config.container.memory.bytes(),
        synchronised: clock_is_synchronised().map_err(|error| format!("the kernel does not say: {error}")),
        ahead: looking.ahead,
        files: kernel::files(),
        clients: server.max_connections as u64,
        watches: kernel::watches(),
        tasks: kernel::tasks(),
    }
}

/// One whose port the kernel chooses can always be had.
fn listen(key: &'static str, address: SocketAddr) -> Option<Listen> {
    let refused = TcpListener::bind(address).err().map(|error| error.to_string());
    (address.port() != 0).then(|| Listen { key, address: address.to_string(), refused })
}
