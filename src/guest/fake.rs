//! The guest's side of a simulation: see [`crate::hypervisor::fake`], which keeps the world.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use uuid::Uuid;

use super::{
    Exit, Forward, ForwardError, Forwarder, GUEST_SSH_PORT, Login, OpenShell, Output, Patience, Shell, ShellError,
    ShellObserver,
};
use crate::hypervisor::fake::{Call, Clock, FakeWorld, State, When, of_kind};
use crate::model::{Listing, Network, Trace, TraceKind};

/// How often a simulated boot looks whether it is still wanted.
const WANTED_INTERVAL: Duration = Duration::from_millis(50);

/// Opens the endpoint shell of simulated guests.
pub struct FakeShell {
    world: Arc<FakeWorld>,
}

impl FakeShell {
    /// In this world.
    pub fn new(world: Arc<FakeWorld>) -> Self {
        FakeShell { world }
    }

    /// How long until the guest answers; `None` is never.
    fn answers_in(&self, who: &Login) -> Option<Duration> {
        let state = self.world.lock();
        self.world.answers_in(&state, state.domains.get(&who.uuid)?)
    }

    /// Waits for a guest that boots, as long as somebody wants it.
    fn wait(&self, who: &Login, patience: Patience<'_>) {
        let start = Instant::now();
        while let Some(left) = self.answers_in(who).filter(|left| !left.is_zero()) {
            let rest = patience.at_most.saturating_sub(start.elapsed());
            if rest.is_zero() || !(patience.wanted)() {
                return;
            }
            thread::sleep(left.min(rest).min(WANTED_INTERVAL));
        }
    }
}

/// The endpoint shell of a simulated guest: it says what it is, and does nothing.
struct SimulatedShell;

impl OpenShell for SimulatedShell {
    fn execute<'a>(&'a mut self, command: &'a str, _: Duration) -> BoxFuture<'a, Result<Output, ShellError>> {
        let stdout = format!("simulated: {command}\n").into_bytes();
        let output = Output { stdout, stderr: Vec::new(), dropped: 0, exit: Exit::Status(0) };
        futures::future::ready(Ok(output)).boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        futures::future::ready(()).boxed()
    }
}

/// Shows an observer the shell, for as long as the guest is wanted.
fn show(
    at: SocketAddr,
    who: &mut Login,
    patience: Patience<'_>,
    observer: &dyn ShellObserver,
) -> Result<(), ShellError> {
    let (uuid, shown) = (who.uuid, std::sync::mpsc::channel());
    let opened = observer.opened(uuid, Box::new(SimulatedShell));
    thread::spawn(move || shown.0.send(futures::executor::block_on(opened)));
    let start = Instant::now();
    loop {
        match shown.1.recv_timeout(WANTED_INTERVAL) {
            Ok(opened) => return who.follow(at, opened).map(drop),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Err(ShellError::Closed { at }),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) if !(patience.wanted)() => {
                return Err(ShellError::Unwanted { at });
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) if start.elapsed() > patience.at_most => {
                return Err(ShellError::Broken { at, reason: "the handler took too long".into() });
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
        }
    }
}

impl Shell for FakeShell {
    fn personalise(
        &self,
        at: SocketAddr,
        who: &Login,
        patience: Patience<'_>,
        observer: Option<&dyn ShellObserver>,
    ) -> Result<(), ShellError> {
        let silent = |reason: &str| ShellError::NotAnswering { at, reason: reason.into() };
        match self.world.options.clock {
            Clock::Real => self.wait(who, patience),
            // Only a test makes a manual clock go on, and it may be the one that called.
            Clock::Manual => {}
        }
        match self.answers_in(who) {
            None => return Err(silent("the simulated guest does not answer")),
            Some(left) if !left.is_zero() => return Err(silent("the simulated guest still boots")),
            Some(_) => (patience.answered)(),
        }
        let mut who = who.clone();
        let personalised = self.world.lock().domains.get(&who.uuid).is_some_and(|domain| domain.user.is_some());
        // As on a real guest: once it is set up, nobody gets in as `endpoint`.
        if let Some(observer) = observer.filter(|_| !personalised) {
            show(at, &mut who, patience, observer)?;
        }
        let mut state = self.world.lock();
        let broken = |reason| ShellError::Broken { at, reason };
        if let Some(reason) = self.world.fault(&mut state, Call::Personalise, When::Before) {
            return Err(broken(reason));
        }
        let domain = state.domains.get_mut(&who.uuid).ok_or_else(|| silent("the simulated guest is gone"))?;
        match &domain.user {
            None => domain.user = Some(who.username.clone()),
            Some(user) if *user == who.username => {}
            Some(_) => return Err(ShellError::Refused { at }),
        }
        match self.world.fault(&mut state, Call::Personalise, When::After) {
            Some(reason) => Err(broken(reason)),
            None => Ok(()),
        }
    }

    fn authorize(&self, at: SocketAddr, who: &Login, key: &str, _: Patience<'_>) -> Result<(), ShellError> {
        let mut state = self.world.lock();
        let broken = |reason| ShellError::Broken { at, reason };
        if let Some(reason) = self.world.fault(&mut state, Call::Authorize, When::Before) {
            return Err(broken(reason));
        }
        match state.domains.get_mut(&who.uuid) {
            None => return Err(ShellError::NotAnswering { at, reason: "the simulated guest is gone".into() }),
            Some(domain) if domain.user.as_ref() != Some(&who.username) => return Err(ShellError::Refused { at }),
            Some(domain) if domain.keys.iter().any(|known| known == key) => {}
            Some(domain) => domain.keys.push(key.into()),
        }
        match self.world.fault(&mut state, Call::Authorize, When::After) {
            Some(reason) => Err(broken(reason)),
            None => Ok(()),
        }
    }

    fn probe(&self, at: SocketAddr, container: Uuid, _: Patience<'_>) -> Result<(), ShellError> {
        let mut state = self.world.lock();
        if let Some(reason) = self.world.fault(&mut state, Call::Probe, When::Before) {
            return Err(ShellError::NotAnswering { at, reason });
        }
        let left = state.domains.get(&container).and_then(|domain| self.world.answers_in(&state, domain));
        match left {
            Some(left) if left.is_zero() => Ok(()),
            Some(_) | None => {
                Err(ShellError::NotAnswering { at, reason: "the simulated guest does not answer".into() })
            }
        }
    }

    /// Nobody waits for a simulated guest between two looks.
    fn soon(&self, _: Uuid) {}

    /// Nothing is kept open to a simulated guest.
    fn forget(&self, _: Uuid) {}
}

/// Forwards of simulated guests: they are kept, and lead nowhere.
pub struct FakeForwarder {
    world: Arc<FakeWorld>,
}

impl FakeForwarder {
    /// In this world.
    pub fn new(world: Arc<FakeWorld>) -> Self {
        FakeForwarder { world }
    }

    fn call<T>(
        &self,
        call: Call,
        port: u16,
        act: impl FnOnce(&mut State) -> Result<T, ForwardError>,
    ) -> Result<T, ForwardError> {
        let mut state = self.world.lock();
        if let Some(reason) = self.world.fault(&mut state, call, When::Before) {
            return Err(ForwardError::Failed { port, reason });
        }
        let done = act(&mut state)?;
        match self.world.fault(&mut state, call, When::After) {
            Some(reason) => Err(ForwardError::Failed { port, reason }),
            None => Ok(done),
        }
    }
}

impl Forwarder for FakeForwarder {
    fn admin(&self, forward: &Forward) -> Result<SocketAddr, ForwardError> {
        let port = forward.port;
        self.call(Call::Admin, port, |state| match self.world.options.network {
            Network::Nat => {
                let address = forward.address.ok_or(ForwardError::NoAddress { port })?;
                Ok(SocketAddr::from((address, GUEST_SSH_PORT)))
            }
            Network::User | Network::Auto if !state.domains.contains_key(&forward.uuid) => {
                Err(ForwardError::Failed { port, reason: format!("there is no domain {}", forward.uuid) })
            }
            Network::User | Network::Auto => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        })
    }

    fn public(&self, forward: &Forward) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, forward.port))
    }

    fn publish(&self, forward: &Forward) -> Result<(), ForwardError> {
        let port = forward.port;
        self.call(Call::Publish, port, |state| {
            let needs_machine = match self.world.options.network {
                Network::Nat if forward.address.is_none() => return Err(ForwardError::NoAddress { port }),
                Network::Nat => false,
                Network::User | Network::Auto => true,
            };
            if needs_machine && !state.domains.contains_key(&forward.uuid) {
                return Err(ForwardError::Failed { port, reason: format!("there is no domain {}", forward.uuid) });
            }
            match state.forwards.get(&port) {
                Some(to) if *to == forward.uuid => Ok(()),
                Some(_) => Err(ForwardError::Taken { port }),
                None if state.taken.contains(&port) => Err(ForwardError::Taken { port }),
                None => {
                    state.forwards.insert(port, forward.uuid);
                    Ok(())
                }
            }
        })
    }

    fn withdraw(&self, forward: &Forward) -> Result<(), ForwardError> {
        self.call(Call::Withdraw, forward.port, |state| {
            // A port alone is enough.
            if forward.uuid.is_nil() || state.forwards.get(&forward.port) == Some(&forward.uuid) {
                state.forwards.remove(&forward.port);
            }
            Ok(())
        })
    }

    fn connections(&self, forward: &Forward) -> Result<u32, ForwardError> {
        self.call(Call::LookAtForwards, forward.port, |state| {
            Ok(state.connections.get(&forward.port).copied().unwrap_or_default())
        })
    }

    fn is_published(&self, forward: &Forward) -> Result<bool, ForwardError> {
        self.call(Call::LookAtForwards, forward.port, |state| {
            Ok(state.forwards.get(&forward.port) == Some(&forward.uuid))
        })
    }

    fn list(&self) -> Result<Vec<u16>, ForwardError> {
        self.call(Call::LookAtForwards, 0, |state| Ok(state.forwards.keys().copied().collect()))
    }

    fn traces(&self) -> Vec<Listing> {
        [TraceKind::Element, TraceKind::Flow]
            .map(|kind| Listing::new(kind, self.call(Call::LookAtTraces, 0, |state| Ok(of_kind(state, kind)))))
            .into()
    }

    fn remove_trace(&self, trace: &Trace) -> Result<(), ForwardError> {
        self.call(Call::RemoveTrace, 0, |state| {
            state.traces.remove(trace);
            Ok(())
        })
    }

    fn is_free(&self, port: u16) -> bool {
        let state = self.world.lock();
        !state.forwards.contains_key(&port) && !state.taken.contains(&port)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::hypervisor::fake::{FakeHypervisor, Options, Wakes};
    use crate::hypervisor::{DomainSpec, Hypervisor, HypervisorError};
    use crate::model::{DomainType, Image, Mark, Memory, NetworkSpec, Wake};

    fn world(options: Options) -> (Arc<FakeWorld>, FakeHypervisor, FakeShell, FakeForwarder) {
        let world = FakeWorld::new(Options { clock: Clock::Manual, boot: Duration::from_secs(3), ..options });
        let (hypervisor, shell) = (FakeHypervisor::new(world.clone()), FakeShell::new(world.clone()));
        (world.clone(), hypervisor, shell, FakeForwarder::new(world))
    }

    fn spec(n: u128) -> DomainSpec {
        DomainSpec {
            mark: Mark {
                instance: Uuid::nil(),
                namespace: "default".into(),
                name: "c".into(),
                uid: Uuid::from_u128(n),
            },
            mac: "52:54:00:00:00:01".into(),
            image: Image::Iso("/image.iso".into()),
            memory: Memory::mebibytes(64),
            vcpus: 1,
            domain_type: DomainType::Auto,
            network: NetworkSpec::default(),
        }
    }

    fn login(n: u128, username: &str) -> Login {
        Login { uuid: Uuid::from_u128(n), username: username.into(), password: "x".to_owned().into() }
    }

    fn at() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 10001))
    }

    #[test]
    fn a_guest_answers_after_its_boot_and_takes_one_user() {
        let (world, hypervisor, shell, _) = world(Options::default());
        hypervisor.create(&spec(1)).unwrap();
        let personalise = |user: &str| shell.personalise(at(), &login(1, user), Duration::from_secs(9).into(), None);
        assert!(matches!(personalise("user_1"), Err(ShellError::NotAnswering { .. })));
        world.advance(Duration::from_secs(3));
        world.fail_after_next(Call::Personalise, 1);
        assert!(matches!(personalise("user_1"), Err(ShellError::Broken { .. })));
        personalise("user_1").unwrap();
        assert!(matches!(personalise("user_2"), Err(ShellError::Refused { .. })));
        world.set_answers(Uuid::from_u128(1), false);
        assert!(matches!(personalise("user_1"), Err(ShellError::NotAnswering { .. })));
    }

    #[test]
    fn a_restarted_operator_sees_the_same_world() {
        let (world, hypervisor, ..) = world(Options::default());
        hypervisor.create(&spec(1)).unwrap();
        hypervisor.create(&spec(1)).unwrap();
        world.add_foreign_domain(Uuid::from_u128(2));
        let again = FakeHypervisor::new(world.clone());
        assert_eq!(again.list().unwrap().len(), 1);
        assert!(again.find(Uuid::from_u128(2)).unwrap().unwrap().mark.is_none());
        assert!(matches!(again.create(&spec(2)), Err(HypervisorError::NotOurs { .. })));
        assert!(matches!(again.destroy(&spec(2).mark), Err(HypervisorError::NotOurs { .. })));
        again.destroy(&spec(1).mark).unwrap();
        again.destroy(&spec(1).mark).unwrap();
        assert_eq!(world.domains().len(), 1);
    }

    #[test]
    fn faults_come_as_ordered() {
        let (world, hypervisor, ..) = world(Options::default());
        let mut wakes = hypervisor.wakes();
        world.fail_next(Call::Create, 1);
        assert!(hypervisor.create(&spec(1)).is_err());
        assert!(world.domains().is_empty());
        world.fail_after_next(Call::Create, 1);
        assert!(hypervisor.create(&spec(1)).is_err());
        assert_eq!((world.domains().len(), world.calls(Call::Create)), (1, 2));
        assert_eq!(wakes.try_recv().unwrap(), Wake::Domain(Uuid::from_u128(1)));
        world.set_reachable(false);
        assert_eq!(wakes.try_recv().unwrap(), Wake::Everything);
        assert!(matches!(hypervisor.list(), Err(HypervisorError::Unreachable { .. })));
        world.set_reachable(true);
        assert_eq!(wakes.try_recv().unwrap(), Wake::Everything);
        world.set_wakes(Wakes::Lost);
        world.kill(Uuid::from_u128(1));
        assert!(wakes.try_recv().is_err());
        world.set_visible_after(Duration::from_secs(1));
        hypervisor.create(&spec(3)).unwrap();
        assert_eq!(hypervisor.find(Uuid::from_u128(3)).unwrap(), None);
        world.advance(Duration::from_secs(1));
        assert!(hypervisor.find(Uuid::from_u128(3)).unwrap().is_some());
    }

    #[test]
    fn forwards_end_with_the_machine_or_stay_as_the_network_has_it() {
        for (network, stay) in [(Network::User, 0), (Network::Nat, 1)] {
            let (world, hypervisor, _, forwarder) = world(Options { network, ..Options::default() });
            hypervisor.create(&spec(1)).unwrap();
            world.advance(Duration::from_secs(3));
            let address = hypervisor.address(Uuid::from_u128(1), "").unwrap();
            let forward = Forward { uuid: Uuid::from_u128(1), address, ..Forward::of_port(10001) };
            forwarder.admin(&forward).unwrap();
            forwarder.publish(&forward).unwrap();
            forwarder.publish(&forward).unwrap();
            let other = forwarder.publish(&Forward { uuid: Uuid::from_u128(2), ..forward.clone() });
            assert!(other.is_err() && !forwarder.is_free(10001));
            world.kill(Uuid::from_u128(1));
            assert_eq!(forwarder.list().unwrap().len(), stay, "{network:?}");
            forwarder.withdraw(&forward).unwrap();
            world.take_port(10002);
            assert!(forwarder.is_free(10001) && !forwarder.is_free(10002));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_failures() {
        let run = |seed| {
            let (_, hypervisor, ..) = world(Options { failure_rate: 0.3, seed, ..Options::default() });
            (0..50).map(|n| hypervisor.create(&spec(n)).is_ok()).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let worked = run(7).into_iter().filter(|ok| *ok).count();
        assert!((20..50).contains(&worked), "{worked} of 50");
    }
}
