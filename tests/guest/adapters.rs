//! What the operator asks of its adapters, on one real guest and without a daemon: the way from the first login to keys
//! and connections.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use anweddol::guest::forward::nft::{NftConfig, NftForwarder};
use anweddol::guest::forward::user::UserForwarder;
use anweddol::guest::ssh::{EndpointShell, SshShell};
use anweddol::guest::{Forward, Forwarder, Login, Shell};
use anweddol::hypervisor::libvirt::{Config, Libvirt, NatNetwork};
use anweddol::hypervisor::{DomainSpec, Hypervisor};
use anweddol::model::{DomainType, Egress, Image, Mark, Memory, NetworkSpec, Wake};
use uuid::Uuid;

use crate::common::ask::runtime;
use crate::common::until;
use crate::host::{Host, Mode, execute};
use crate::user::{log_in_by_key, new_key};

const BOOT: Duration = Duration::from_secs(100);
const PORT: u16 = 20_200;

fn spec(host: &Host) -> DomainSpec {
    let uid = Uuid::new_v4();
    let [a, b, c, ..] = *uid.as_bytes();
    DomainSpec {
        mark: Mark { instance: Uuid::from_u128(7), namespace: "default".into(), name: "test-0".into(), uid },
        mac: format!("52:54:00:{a:02x}:{b:02x}:{c:02x}"),
        image: Image::Kernel {
            path: host.image.kernel.path.clone(),
            initrd: host.image.initrd.path.clone(),
            cmdline: String::new(),
        },
        memory: Memory::mebibytes(256),
        vcpus: 1,
        domain_type: DomainType::Auto,
        network: NetworkSpec::default(),
    }
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_key_is_installed_over_the_kept_login_and_without_it_and_only_users_connections_count() {
    let host = Host::lab();
    let (libvirt, forwarder): (_, Box<dyn Forwarder>) = match host.mode {
        Mode::Embedded => {
            let libvirt = Libvirt::connect(Config::embedded(host.dir.join("v"))).unwrap();
            (libvirt.clone(), Box::new(UserForwarder::new(libvirt, Ipv4Addr::UNSPECIFIED)))
        }
        Mode::System => {
            let config = NftConfig::new(Ipv4Addr::UNSPECIFIED, NatNetwork::default());
            (Libvirt::connect(Config::system()).unwrap(), Box::new(NftForwarder::open(config).unwrap()))
        }
    };
    let spec = spec(&host);
    let mut wakes = libvirt.wakes();
    libvirt.create(&spec).unwrap();
    let address = match host.mode {
        Mode::Embedded => None,
        Mode::System => Some(until("its address", || libvirt.address(spec.mark.uid, &spec.mac).unwrap())),
    };
    let forward = Forward { uuid: spec.mark.uid, port: PORT, address, mac: spec.mac.clone(), egress: Egress::None };
    let (username, password) = EndpointShell::generate_credentials();
    let who = Login { uuid: spec.mark.uid, username, password };
    let runtime = runtime();
    let shell = SshShell::new(runtime.handle().clone());
    let at = forwarder.admin(&forward).unwrap();
    shell.personalise(at, &who, BOOT.into(), None).unwrap();
    forwarder.publish(&forward).unwrap();
    // What spared waiting: word of its card, and of its lease where there is one.
    let told: HashSet<Wake> = std::iter::from_fn(|| wakes.try_recv().ok()).collect();
    assert!(told.contains(&Wake::Card(spec.mark.uid)), "{told:?}");
    assert_eq!(told.contains(&Wake::Lease), host.mode == Mode::System, "{told:?}");
    // The login that is kept is not its user's.
    assert_eq!(forwarder.connections(&forward).unwrap(), 0);

    let first = host.dir.join("first");
    let key = new_key(&first);
    shell.authorize(forwarder.admin(&forward).unwrap(), &who, &key, BOOT.into()).unwrap();
    let log_in = || log_in_by_key(&first, &who.username, PORT, "id -un; wc -l < ~/.ssh/authorized_keys");
    assert_eq!(log_in(), format!("{}\n1\n", who.username));
    // As after a restart: another process, that kept nothing. The same key again is one key.
    let shell = SshShell::new(runtime.handle().clone());
    shell.authorize(forwarder.admin(&forward).unwrap(), &who, &key, BOOT.into()).unwrap();
    assert_eq!(log_in(), format!("{}\n1\n", who.username));

    until("none connected", || (forwarder.connections(&forward).unwrap() == 0).then_some(()));
    runtime.block_on(async {
        let at = (Ipv4Addr::LOCALHOST, PORT).into();
        let mut session = EndpointShell::connect_as(at, &who.username, &who.password, BOOT).await.unwrap();
        execute(&mut session, "true").await;
        assert_eq!(forwarder.connections(&forward).unwrap(), 1);
        session.close().await;
    });
    until("none connected", || (forwarder.connections(&forward).unwrap() == 0).then_some(()));
    forwarder.withdraw(&forward).unwrap();
    libvirt.destroy(&spec.mark).unwrap();
    assert!(forwarder.list().unwrap().is_empty());
}
