//! The whole as a graph: what it can be, what can come next, and what it is then.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::bench::NS;
use super::ledger::Ledger;
use super::moment::{Known, Moment, Print, View, Went, print};
use super::outside::{On, Recorded};
use super::stage::{Blind, Bug, Course, Ended, Stage};
use crate::api::{Api, ApiError, Births, Digests, Sealer};
use crate::guest::fake::{FakeForwarder, FakeShell};
use crate::guest::{Forwarder, Shell};
use crate::hypervisor::Hypervisor;
use crate::hypervisor::fake::FakeHypervisor;
use crate::model::*;
use crate::operator::Operator;
use crate::plan::claim::finished;
use crate::store::{Cond, Content, Store, Txn};

/// Somebody else's domain.
pub(super) const FOREIGN: Uuid = Uuid::from_u128(0xf0e1);
const INSTANCE: Uuid = Uuid::from_u128(0x1257);
const PORTS: std::ops::RangeInclusive<u16> = 10_000..=10_015;

/// How much can happen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) network: Network,
    /// Clients that ask.
    pub(super) clients: usize,
    /// Whether somebody wrote a claim, which waits as long as it takes.
    pub(super) written: bool,
    /// Machines kept warm, and the most of them.
    pub(super) warm: u32,
    pub(super) most: u32,
    /// Pieces of work under way at once.
    pub(super) at_once: usize,
    pub(super) left: Left,
}

/// What can still happen from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// The daemon dies.
    pub(super) crashes: u32,
    /// A machine dies.
    pub(super) kills: u32,
    /// A look sees nothing.
    pub(super) doubts: u32,
    /// A connection is lost.
    pub(super) cuts: u32,
    /// The world is looked through for leftovers.
    pub(super) sweeps: u32,
}

/// Something that the daemon does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Work {
    /// It starts.
    Recover,
    Sweep,
    Pass(ObjectRef),
    /// For this client.
    Create(usize),
    /// What nobody waits for any more.
    Withdraw(usize),
    Destroy(usize),
}

/// What happens next.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Work reads, up to its first call.
    Begin(Work, Option<Blind>),
    /// Work makes its call, and reads up to the next one.
    GoOn(Work),
    /// A client is told of its machine.
    Tell(usize),
    /// A client is told that there is none.
    Fail(usize),
    /// A client's connection is lost.
    Cut(usize),
    /// A machine dies.
    Kill(Uuid),
    /// The daemon dies, and is started again.
    Crash,
}

/// What a client knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// It did not ask yet.
    Idle,
    /// Its claim is being written.
    Asks,
    /// Its claim is written.
    Waits,
    /// This machine is its own.
    Has(String),
    /// It gives that back.
    Returns(String),
    /// It was told that this is gone.
    Returned(String),
    /// It was told that there is no machine for it, or nothing.
    Gone,
}

#[derive(Clone)]
pub(super) struct Task {
    pub(super) course: Arc<Course>,
    blind: Option<Blind>,
}

#[derive(Clone)]
pub(super) struct State {
    pub(super) now: Arc<Moment>,
    /// Before the last commit, where a bug takes that back.
    before: Option<Content>,
    pub(super) run: u128,
    pub(super) tasks: BTreeMap<Work, Task>,
    pub(super) clients: Vec<Client>,
    pub(super) ledger: Ledger,
    left: Left,
}

/// What work says when it is done.
enum Done {
    Well,
    /// There was no machine, or none of that name.
    Refused,
}

pub(super) struct System {
    pub(super) stage: Arc<Stage>,
    pub(super) bounds: Bounds,
    pub(super) operator: Operator,
    births: Arc<Births>,
    fresh: Arc<Mutex<Uuid>>,
    /// Passes that have nothing to do at a moment like this.
    idle: RefCell<HashSet<(Print, Work, Option<Blind>)>>,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

fn client(number: usize) -> String {
    format!("wire-{number}")
}

fn token(number: usize) -> SecretString {
    SecretString::from(format!("token-{number}"))
}

impl System {
    pub(super) fn new(bounds: Bounds, bug: Option<Bug>) -> (System, State) {
        let dir = tempfile::tempdir().unwrap();
        let stage = Arc::new(Stage::new(bounds.network, bug));
        stage.world.add_foreign_domain(FOREIGN);
        let fresh = Arc::new(Mutex::new(Uuid::nil()));
        let named = Arc::clone(&fresh);
        let sealer = Sealer::from_file(&dir.path().join("seal.key")).unwrap();
        let ports = Arc::clone(&stage);
        let is_free = Arc::new(move |port| port == ports.lowest_port(*PORTS.start()));
        let births = Births::new(sealer, Digests::default(), PORTS, is_free);
        let births = Arc::new(births.naming(Arc::new(move || *named.lock().unwrap())));
        let world = || Arc::clone(&stage.world);
        let hypervisor: Box<dyn Hypervisor> = Box::new(FakeHypervisor::new(world()));
        let shell: Box<dyn Shell> = Box::new(FakeShell::new(world()));
        let forwarder: Box<dyn Forwarder> = Box::new(FakeForwarder::new(world()));
        let clock = Arc::clone(&stage);
        let operator = Operator {
            store: Arc::new(Recorded(Arc::clone(&stage))),
            hypervisor: Arc::new(On { stage: Arc::clone(&stage), inner: hypervisor }),
            shell: Arc::new(On { stage: Arc::clone(&stage), inner: shell }),
            observer: None,
            forwarder: Arc::new(On { stage: Arc::clone(&stage), inner: forwarder }),
            births: Arc::clone(&births),
            doubts: Arc::default(),
            metrics: Arc::default(),
            probes: Arc::default(),
            boots: Arc::default(),
            kept_events: Arc::new(usize::MAX.into()),
            clock: Arc::new(move || clock.time()),
            instance: INSTANCE,
            addressed: bounds.network == Network::Nat,
            quit: CancellationToken::new(),
        };
        let image = dir.path().join("image.qcow2");
        std::fs::write(&image, "image").unwrap();
        let template = Template::of(Image::Disk { path: image, format: DiskFormat::Qcow2 });
        let mut spec = PoolSpec::of(bounds.warm, bounds.most, template);
        // Time stands still: nothing may wait for it.
        spec.refill.debounce_milliseconds = 0;
        let metadata = ObjectMeta::new(NS, "default", Uuid::from_u128(0xb001), stage.time());
        let pool = ContainerPool { metadata, spec, status: PoolStatus::default() };
        stage.store.apply(Txn::default().write(&pool)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let system = System { stage, bounds, operator, births, fresh, idle: RefCell::default(), runtime, _dir: dir };
        let start = system.start();
        (system, start)
    }

    /// The pool is as wished for, and no client has asked.
    fn start(&self) -> State {
        let mut state = State {
            now: Arc::new(self.stage.moment()),
            before: None,
            run: 1,
            tasks: BTreeMap::new(),
            clients: vec![Client::Idle; self.bounds.clients],
            ledger: Ledger::default(),
            left: self.bounds.left,
        };
        self.settle(&mut state, &mut BTreeSet::new()).expect("the pool fills up");
        if self.bounds.written {
            self.stage.free(&state.now);
            let metadata = ObjectMeta::new(NS, "written", Uuid::from_u128(0xc1a1_0000), self.stage.time());
            let spec = ClaimSpec::of("default", Origin::Object);
            let claim = ContainerClaim { metadata, spec, status: ClaimStatus::default() };
            self.stage.store.apply(Txn::default().write(&claim)).unwrap();
            state.now = Arc::new(self.stage.moment());
        }
        state
    }

    // --- what can come ---

    pub(super) fn acts(&self, state: &State) -> Vec<Act> {
        let mut acts: Vec<Act> = state.tasks.keys().cloned().map(Act::GoOn).collect();
        let up = !state.tasks.contains_key(&Work::Recover);
        if up && state.tasks.len() < self.bounds.at_once {
            let idle = |work: &Work| !state.tasks.contains_key(work);
            let blind = state.left.doubts > 0;
            let blinds = [Blind::Domains, Blind::Forwards, Blind::Disks].into_iter().filter(|_| blind).map(Some);
            let objects = state.objects().into_iter().map(Work::Pass);
            let sweep = (state.left.sweeps > 0).then_some(Work::Sweep);
            for work in objects.chain(sweep).filter(idle) {
                let looks = matches!(&work, Work::Sweep) || matches!(&work, Work::Pass(o) if o.kind == Kind::Container);
                acts.push(Act::Begin(work.clone(), None));
                acts.extend(blinds.clone().filter(|_| looks).map(|blind| Act::Begin(work.clone(), blind)));
            }
            // Clients are alike: they come in order.
            let next = state.clients.iter().position(|client| *client == Client::Idle);
            acts.extend(next.map(|number| Act::Begin(Work::Create(number), None)));
            let has = |(number, client): (usize, &Client)| matches!(client, Client::Has(_)).then_some(number);
            let return_ = state.clients.iter().enumerate().filter_map(has);
            acts.extend(return_.map(|number| Act::Begin(Work::Destroy(number), None)));
        }
        for (number, client) in state.clients.iter().enumerate() {
            match client {
                Client::Waits => acts.extend(state.news(number)),
                Client::Idle | Client::Asks | Client::Has(_) | Client::Returns(_) | Client::Returned(_) => {}
                Client::Gone => {}
            }
            if state.left.cuts > 0 && matches!(client, Client::Asks | Client::Waits | Client::Returns(_)) {
                acts.push(Act::Cut(number));
            }
        }
        if state.left.kills > 0 {
            acts.extend(state.now.domains().into_iter().map(Act::Kill));
        }
        if state.left.crashes > 0 {
            acts.push(Act::Crash);
        }
        acts
    }

    /// What is then; `None` if nothing came of it. An error is a broken promise.
    pub(super) fn next(&self, state: &State, act: &Act) -> Result<Option<State>, String> {
        let mut next = state.clone();
        match act {
            Act::Begin(work, blind) => {
                if !self.begin(&mut next, work.clone(), *blind) {
                    return Ok(None);
                }
                next.left.doubts -= u32::from(blind.is_some());
                next.left.sweeps -= u32::from(*work == Work::Sweep);
            }
            Act::GoOn(work) => self.go_on(&mut next, work)?,
            Act::Tell(number) => {
                let container = state.claim(*number).and_then(|claim| claim.status.container.clone()).unwrap();
                self.stage.free(&state.now);
                let api = self.api(state);
                match api.read_container(&container).and_then(|c| api.granted(&c, token(*number))) {
                    Ok(granted) => {
                        let told = state.now.facts().container(&container).unwrap();
                        assert_eq!((granted.uuid, granted.port), (told.uuid(), told.spec.machine.port));
                        next.clients[*number] = Client::Has(container);
                    }
                    Err(_) => self.unwanted(&mut next, *number),
                }
            }
            Act::Fail(number) => self.unwanted(&mut next, *number),
            Act::Cut(number) => {
                next.left.cuts -= 1;
                match state.clients[*number] {
                    // Nothing was written: what is on its way to the store comes there before its withdrawal.
                    Client::Asks => drop(next.tasks.remove(&Work::Create(*number))),
                    Client::Waits => self.unwanted(&mut next, *number),
                    Client::Returns(_) => drop(next.tasks.remove(&Work::Destroy(*number))),
                    Client::Idle | Client::Has(_) | Client::Returned(_) | Client::Gone => {}
                }
                next.clients[*number] = Client::Gone;
            }
            Act::Kill(uuid) => {
                next.left.kills -= 1;
                self.stage.free(&state.now);
                self.stage.world.kill(*uuid);
                next.now = Arc::new(self.stage.moment().after(&state.now));
                next.ledger.killed(*uuid);
            }
            Act::Crash => {
                next.left.crashes -= 1;
                self.crash(&mut next);
            }
        }
        next.forget_the_doomed();
        next.ledger.forget_all_but(&next.names());
        Ok(Some(next))
    }

    pub(super) fn crash(&self, state: &mut State) {
        state.run += 1;
        state.tasks.clear();
        for client in &mut state.clients {
            if matches!(client, Client::Asks | Client::Waits | Client::Returns(_)) {
                *client = Client::Gone;
            }
        }
        if let Some(before) = state.before.take() {
            state.now = Arc::new(Moment::new(before, state.now.world.clone()));
        }
        self.begin(state, Work::Recover, None);
    }

    /// Nobody waits for it any more: what `Wish` does when it is dropped.
    fn unwanted(&self, state: &mut State, number: usize) {
        state.clients[number] = Client::Gone;
        self.begin(state, Work::Withdraw(number), None);
    }

    fn begin(&self, state: &mut State, work: Work, blind: Option<Blind>) -> bool {
        // Of a client's work more counts than the moment.
        let known = matches!(work, Work::Pass(_) | Work::Sweep).then(|| (state.now.print(), work.clone(), blind));
        if known.as_ref().is_some_and(|known| self.idle.borrow().contains(known)) {
            return false;
        }
        let begun = state.now.begun.lock().unwrap().get(&(work.clone(), blind)).cloned();
        if let Some(course) = begun {
            state.tasks.insert(work, Task { course, blind });
            return true;
        }
        self.name(state);
        match self.stage.begin(&state.now, blind, self.work(state, &work)) {
            Ended::Done(done) => {
                self.idle.borrow_mut().extend(known);
                self.done(state, &work, &done)
            }
            Ended::At(course) => {
                let course = Arc::new(course);
                match &work {
                    Work::Create(number) => state.clients[*number] = Client::Asks,
                    Work::Destroy(number) => state.clients[*number] = Client::Returns(state.machine(*number)),
                    Work::Recover | Work::Sweep | Work::Pass(_) | Work::Withdraw(_) => {}
                }
                if known.is_some() {
                    state.now.begun.lock().unwrap().insert((work.clone(), blind), Arc::clone(&course));
                }
                state.tasks.insert(work, Task { course, blind });
                true
            }
        }
    }

    fn go_on(&self, state: &mut State, work: &Work) -> Result<(), String> {
        let Task { course, blind } = state.tasks.remove(work).expect("what goes on has begun");
        let here = Arc::clone(&state.now);
        // Where another order came to the same, this was seen. Who makes a machine may have to name it otherwise.
        let known = matches!(work, Work::Pass(object) if object.kind != Kind::ContainerPool);
        let went = here.went.lock().unwrap().get(&Known(Arc::clone(&course))).cloned();
        let (went, done) = match went {
            Some(went) => (went, Done::Well),
            None => {
                self.name(state);
                let ran = self.stage.go_on(&course, &here, blind, self.work(state, work));
                ran.broken.map_or(Ok(()), Err)?;
                let (now, next, done) = match ran.ended {
                    Ended::At(next) => (Arc::clone(&next.reads), Some(Arc::new(next)), Done::Well),
                    Ended::Done(done) => (Arc::new(self.stage.moment().after(&here)), None, done),
                };
                let went = Went { now, next, committed: ran.committed.map(Arc::new) };
                if known {
                    here.went.lock().unwrap().insert(Known(course), went.clone());
                }
                (went, done)
            }
        };
        state.now = went.now;
        if let Some(txn) = &went.committed {
            state.check(self.bounds.most)?;
            state.ledger.note(std::slice::from_ref(&**txn), work, &here, &state.now)?;
            state.before = (self.stage.bug == Some(Bug::AcknowledgesTooEarly)).then(|| here.store.clone());
        }
        match went.next {
            Some(course) => drop(state.tasks.insert(work.clone(), Task { course, blind })),
            None => drop(self.done(state, work, &done)),
        }
        Ok(())
    }

    /// What its end means to a client; whether it means anything.
    fn done(&self, state: &mut State, work: &Work, done: &Done) -> bool {
        let (number, now) = match (work, done) {
            (Work::Create(number), Done::Well) => (*number, Client::Waits),
            (Work::Create(number) | Work::Destroy(number), Done::Refused) => (*number, Client::Gone),
            (Work::Destroy(number), Done::Well) => (*number, Client::Returned(state.machine(*number))),
            (Work::Recover | Work::Sweep | Work::Pass(_) | Work::Withdraw(_), _) => return false,
        };
        state.clients[number] = now;
        true
    }

    /// The lowest name that nobody bears, and nobody who is under way remembers, is the next one's.
    pub(super) fn name(&self, state: &State) {
        let names = state.names();
        let fresh = (1..).map(Uuid::from_u128).find(|name| !names.contains(name)).unwrap();
        *self.fresh.lock().unwrap() = fresh;
    }

    // --- the work itself: the product's own ---

    fn work<'a>(&'a self, state: &State, work: &'a Work) -> impl FnOnce() -> Done + use<'a> {
        let api = self.api(state);
        let run = Uuid::from_u128(state.run);
        let machine = match work {
            Work::Destroy(number) => state.machine(*number),
            Work::Recover | Work::Sweep | Work::Pass(_) | Work::Create(_) | Work::Withdraw(_) => String::new(),
        };
        move || {
            match work {
                Work::Recover => {
                    self.operator.recover(run).unwrap();
                    self.operator.sweep().unwrap();
                }
                Work::Sweep => self.operator.sweep().unwrap(),
                Work::Pass(object) => drop(self.operator.pass(object).unwrap()),
                Work::Create(number) => {
                    let written = self.runtime.block_on(api.write_claim(&claim(&api, *number), vec![]));
                    return match written {
                        Ok(_) => Done::Well,
                        Err(ApiError::Full { .. }) => Done::Refused,
                        Err(error) => panic!("{error}"),
                    };
                }
                Work::Withdraw(number) => self.runtime.block_on(api.withdraw(&claim(&api, *number))).unwrap(),
                Work::Destroy(number) => {
                    let token = format!("token-{number}");
                    let Ok(claim) = api.authenticate(&machine, &token) else { return Done::Refused };
                    self.runtime.block_on(api.withdraw(&claim)).unwrap();
                }
            }
            Done::Well
        }
    }

    /// What a run of the daemon has in memory begins anew with every call: reservations, whose turn it is to make a
    /// machine, and hints are courtesies, and the promises hold without them.
    fn api(&self, state: &State) -> Arc<Api> {
        let store: Arc<dyn Store> = Arc::clone(&self.operator.store);
        let (births, clock) = (Arc::clone(&self.births), self.operator.clock.clone());
        Arc::new(Api::new(store, births, clock, Uuid::from_u128(state.run), NS, "default"))
    }
}

fn claim(api: &Api, number: usize) -> ContainerClaim {
    let from = crate::model::Client { ip: std::net::Ipv4Addr::LOCALHOST.into(), id: number.to_string() };
    let mut claim = api.claim(&from, &token(number));
    claim.metadata.uid = Uuid::from_u128(0xc1a0 + number as u128);
    claim.metadata.name = client(number);
    claim
}

impl State {
    /// Two states of one print have the same to come.
    pub(super) fn print(&self) -> Print {
        let Left { crashes, kills, doubts, cuts, sweeps } = self.left;
        let mut parts: Vec<Vec<u8>> = vec![
            self.now.print().to_vec(),
            format!("{} {crashes} {kills} {doubts} {cuts} {sweeps} {:?}", self.run, self.clients).into_bytes(),
            format!("{:?}", self.ledger).into_bytes(),
        ];
        for (work, Task { course, blind }) in &self.tasks {
            let holds: Vec<bool> = course.next.conds.iter().map(|cond| holds(&self.now.store, cond)).collect();
            parts.push(format!("{work:?} {blind:?} {} {holds:?}", course.told()).into_bytes());
            match work {
                Work::Pass(object) if object.kind == Kind::Container => {
                    parts.push(course.reads.print_of(View::Container(&object.name)).to_vec());
                }
                // It commits once and is done, or begins anew.
                Work::Pass(_) | Work::Create(_) | Work::Withdraw(_) | Work::Destroy(_) => {
                    parts.push(course.next.writes.to_vec());
                }
                // What they read first they act on last.
                Work::Recover | Work::Sweep => parts.extend(course.moments().map(|moment| moment.print().to_vec())),
            }
        }
        print(parts.iter().map(Vec::as_slice))
    }

    pub(super) fn objects(&self) -> Vec<ObjectRef> {
        let facts = self.now.facts();
        let containers = facts.containers.iter().map(Object::object_ref);
        containers.chain([facts.pool.object_ref()]).chain(facts.claims.iter().map(Object::object_ref)).collect()
    }

    pub(super) fn claim(&self, number: usize) -> Option<&ContainerClaim> {
        self.now.facts().claim(&client(number))
    }

    /// What a client that waits would be told now.
    fn news(&self, number: usize) -> Option<Act> {
        match self.claim(number).map(|claim| claim.status.phase) {
            Some(ClaimPhase::Pending) => None,
            Some(ClaimPhase::Bound) => Some(Act::Tell(number)),
            Some(phase) if !finished(phase) => None,
            Some(_) | None => Some(Act::Fail(number)),
        }
    }

    fn machine(&self, number: usize) -> String {
        match &self.clients[number] {
            Client::Has(name) | Client::Returns(name) | Client::Returned(name) => name.clone(),
            Client::Idle | Client::Asks | Client::Waits | Client::Gone => panic!("it has no machine"),
        }
    }

    /// Every name that anybody knows.
    pub(super) fn names(&self) -> BTreeSet<Uuid> {
        let moments = self.tasks.values().flat_map(|task| task.course.moments());
        let names = moments.chain([&self.now]).flat_map(|moment| moment.names());
        let remembered = self.clients.iter().filter_map(|client| match client {
            Client::Has(name) | Client::Returns(name) | Client::Returned(name) => name.parse().ok(),
            Client::Idle | Client::Asks | Client::Waits | Client::Gone => None,
        });
        let claims = self.now.facts().claims.iter();
        let claimed = claims.filter_map(|claim| claim.status.container.as_ref()?.parse().ok());
        names.chain(remembered).chain(claimed).collect()
    }

    /// A pass whose first commit comes too late changes nothing, and its object gets another one: as if it had not begun.
    fn forget_the_doomed(&mut self) {
        let now = Arc::clone(&self.now);
        let late = |cond: &Cond| matches!(cond, Cond::ModRev(..)) && !holds(&now.store, cond);
        self.tasks.retain(|work, task| {
            let course = &task.course;
            !(matches!(work, Work::Pass(_)) && course.fresh() && course.next.conds.iter().any(late))
        });
    }
}

fn holds(store: &Content, cond: &Cond) -> bool {
    match cond {
        Cond::Absent(key) => store.get(key).is_none(),
        Cond::ModRev(key, rev) => store.get(key).is_some_and(|kv| kv.mod_rev == *rev),
    }
}
