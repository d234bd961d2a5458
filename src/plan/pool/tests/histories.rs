//! Random histories of one pool, in memory alone: whatever `decide` wants is done, between whatever else happens.

use proptest::prelude::*;

use super::*;

/// One thing that happens besides what the pool does.
#[derive(Clone, Debug)]
enum Act {
    /// So many decisions are carried out.
    Decide(u8),
    /// A member on its way becomes Ready, or fails.
    Boot { which: usize, fails: bool },
    /// One that goes away has gone.
    End(usize),
    /// A Ready member is claimed.
    Claim(usize),
    /// A container ends, whatever it is.
    Die(usize),
    /// A cold container is made for a claim, if there is place.
    Cold,
    /// The template changes.
    Template(u64),
    /// The image changes, or goes.
    Image(Option<u8>),
    /// The size changes.
    Scale(u32),
    /// The pool is paused or not.
    Pause(bool),
    /// The strategy changes.
    Strategy(UpdateStrategy),
    /// Nothing can be made, or it can again.
    Hinder(bool),
    /// Seconds pass.
    Wait(u8),
}

fn strategy() -> impl Strategy<Value = UpdateStrategy> {
    let kind = prop_oneof![Just(UpdateKind::RollingUpdate), Just(UpdateKind::Recreate), Just(UpdateKind::OnReplenish)];
    (kind, 0..3_u32).prop_map(|(kind, max_unavailable)| UpdateStrategy { kind, max_unavailable })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (1..4_u8).prop_map(Act::Decide),
        8 => (any::<usize>(), prop::bool::weighted(0.2)).prop_map(|(which, fails)| Act::Boot { which, fails }),
        6 => any::<usize>().prop_map(Act::End),
        3 => any::<usize>().prop_map(Act::Claim),
        1 => any::<usize>().prop_map(Act::Die),
        1 => Just(Act::Cold),
        2 => (1..4_u64).prop_map(Act::Template),
        1 => prop::option::weighted(0.7, 0..3_u8).prop_map(Act::Image),
        2 => (0..6_u32).prop_map(Act::Scale),
        1 => any::<bool>().prop_map(Act::Pause),
        1 => strategy().prop_map(Act::Strategy),
        1 => any::<bool>().prop_map(Act::Hinder),
        3 => (0..90_u8).prop_map(Act::Wait),
    ]
}

struct World {
    pool: ContainerPool,
    members: Vec<Container>,
    image: Option<String>,
    hindered: bool,
    made: u32,
    now: i64,
}

impl World {
    fn new(refill: Refill, max_ready: Option<u32>) -> Self {
        let mut pool = pool(0, 5, 0);
        pool.spec.refill = refill;
        pool.spec.template.lifetime.max_ready_seconds = max_ready;
        World { pool, members: vec![], image: Some("0".into()), hindered: false, made: 0, now: 1000 }
    }

    fn pick(&self, which: usize, of: impl Fn(&Container) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.members.len()).filter(|&i| of(&self.members[i])).collect();
        (!all.is_empty()).then(|| all[which % all.len()])
    }

    fn born(&mut self, claim: Option<String>) {
        self.made += 1;
        let mut c = member(&format!("m{}", self.made), Phase::Pending, self.now);
        let sha256 = self.image.clone().expect("nothing is made without an image");
        c.spec.claim = claim.into();
        c.spec.template = self.pool.spec.template.clone().into();
        c.metadata.labels.insert(TEMPLATE_HASH.into(), template_hash(&c.spec.template, &sha256));
        c.spec.machine.image_sha256 = sha256.into();
        self.members.push(c);
    }

    fn outdated(&self) -> usize {
        let hash = template_hash(&self.pool.spec.template, self.image.as_deref().unwrap_or(""));
        self.members.iter().filter(|c| c.spec.claim.is_none() && !hash::bears(c, &hash)).count()
    }

    fn ready(&self) -> u32 {
        self.members.iter().filter(|c| c.spec.claim.is_none() && is_ready(c) && !c.metadata.deleting()).count() as u32
    }

    fn wanted(&self) -> u32 {
        let claimed = self.members.iter().filter(|c| c.spec.claim.is_some()).count() as u32;
        self.pool.spec.replicas.min(self.pool.spec.max_containers.saturating_sub(claimed))
    }

    /// Carries out one decision; whether it was a step.
    fn decide(&mut self) -> Result<bool, TestCaseError> {
        let hindrance = Hindrance { reason: "HostFull", message: "no memory".into() };
        let image = self.image.as_deref().ok_or("it is not there");
        let mut outlook = Outlook { image, hindrance: None };
        let mut decision = decide(&self.pool, &self.members, &outlook, at(self.now));
        if matches!(decision.next, Next::Make(_)) && self.hindered {
            outlook.hindrance = Some(&hindrance);
            decision = decide(&self.pool, &self.members, &outlook, at(self.now));
            prop_assert!(matches!(decision.next, Next::Look(_)), "hindered, it takes a step");
        }
        // Committed, it decides the same again, and tells nothing again.
        let again = decide(&committed(&self.pool, &decision), &self.members, &outlook, at(self.now));
        prop_assert_eq!(&again.status, &decision.status);
        prop_assert_eq!(&again.next, &decision.next);
        prop_assert_eq!(&again.events, &vec![]);
        self.pool.status = decision.status;
        let step = !matches!(decision.next, Next::Look(_) | Next::Rest);
        prop_assert!(!step || !self.pool.spec.paused, "paused, it takes a step");
        match decision.next {
            Next::Make(count) => {
                prop_assert!(self.image.is_some(), "made without an image");
                prop_assert!(count > 0, "it makes none");
                for _ in 0..count {
                    self.born(None);
                    count_in(&mut self.pool.status, &self.pool.spec, at(self.now));
                }
                let starting = |c: &&Container| {
                    c.spec.claim.is_none() && matches!(c.status.phase, Phase::Pending | Phase::Booting)
                };
                let starting = self.members.iter().filter(starting).count();
                prop_assert!(starting as u32 <= self.pool.spec.refill.max_starting.max(1), "too many boot at once");
                let unclaimed = self.members.iter().filter(|c| c.spec.claim.is_none()).count() as u32;
                prop_assert!(unclaimed <= self.wanted(), "one too many was made");
            }
            Next::Release(name) => {
                let (ready, wanted, now) = (self.ready(), self.wanted(), at(self.now));
                let rising =
                    |c: &&Container| !c.metadata.deleting() && c.spec.claim.is_none() && c.status.phase < Phase::Bound;
                let excess = self.members.iter().filter(rising).count() as u32 > wanted;
                let strategy = self.pool.spec.update_strategy;
                let c = self.members.iter_mut().find(|c| c.metadata.name == name).unwrap();
                prop_assert!(c.spec.claim.is_none(), "a claimed one was let go");
                prop_assert!(!c.metadata.deleting(), "one was let go twice");
                let (was_ready, aged) = (is_ready(c), end(c).is_some_and(|at| at <= now));
                c.metadata.deletion_timestamp = Some(now).into();
                c.status.phase = Phase::Terminating;
                if strategy.kind == UpdateKind::RollingUpdate && was_ready && !excess && !aged {
                    let least = wanted.saturating_sub(strategy.max_unavailable.max(1));
                    prop_assert!(ready > least, "an update left {} of {wanted}", ready - 1);
                }
                if strategy.kind == UpdateKind::OnReplenish {
                    prop_assert!(excess || aged, "an outdated one was not left in peace");
                }
            }
            Next::Remove => prop_assert!(false, "a pool that nobody deleted goes"),
            Next::Look(_) | Next::Rest => {}
        }
        prop_assert!(self.pool.status.containers <= self.pool.spec.max_containers);
        prop_assert_eq!(self.pool.status.containers as usize, self.members.len());
        Ok(step)
    }

    fn end(&mut self, index: usize) {
        let c = self.members.remove(index);
        count_out(&mut self.pool.status, &c, &c.status, at(self.now));
    }

    fn act(&mut self, act: &Act) -> Result<(), TestCaseError> {
        let boots = |c: &Container| matches!(c.status.phase, Phase::Pending | Phase::Booting) && !c.metadata.deleting();
        let goes = |c: &Container| matches!(c.status.phase, Phase::Terminating | Phase::Failed);
        match act {
            Act::Decide(times) => {
                for _ in 0..*times {
                    self.decide()?;
                }
            }
            Act::Boot { which, fails } => {
                if let Some(i) = self.pick(*which, boots) {
                    let status = &mut self.members[i].status;
                    status.phase = if *fails { Phase::Failed } else { Phase::Ready };
                    status.ready_at = (!fails).then_some(at(self.now));
                }
            }
            Act::End(which) => {
                if let Some(i) = self.pick(*which, goes) {
                    self.end(i);
                }
            }
            Act::Claim(which) => {
                if let Some(i) = self.pick(*which, |c| is_ready(c) && c.spec.claim.is_none() && !c.metadata.deleting())
                {
                    self.members[i].spec.claim = Some("claim".to_owned()).into();
                    self.members[i].status.phase = Phase::Bound;
                }
            }
            Act::Die(which) => {
                if let Some(i) = self.pick(*which, |c| !goes(c)) {
                    self.members[i].status.phase = Phase::Terminating;
                }
            }
            Act::Cold => {
                if self.image.is_some() && self.pool.status.containers < self.pool.spec.max_containers {
                    self.born(Some("claim".into()));
                    self.pool.status.containers += 1;
                }
            }
            Act::Template(mib) => {
                self.pool.spec.template.memory = Memory::mebibytes(64 + mib);
                self.pool.metadata.generation += 1;
            }
            Act::Image(image) => self.image = image.map(|number| number.to_string()),
            Act::Scale(replicas) => self.pool.spec.replicas = *replicas,
            Act::Pause(paused) => self.pool.spec.paused = *paused,
            Act::Strategy(strategy) => self.pool.spec.update_strategy = *strategy,
            Act::Hinder(hindered) => self.hindered = *hindered,
            Act::Wait(seconds) => self.now += i64::from(*seconds),
        }
        Ok(())
    }

    /// Everything boots and ends as it should, until the pool rests.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        self.image.get_or_insert_with(|| "0".into());
        (self.hindered, self.pool.spec.paused) = (false, false);
        self.pool.spec.template.lifetime.max_ready_seconds = None;
        self.members.iter_mut().for_each(|c| c.spec.template.lifetime.max_ready_seconds = None);
        for _ in 0..400 {
            let step = self.decide()?;
            let before = self.members.clone();
            self.act(&Act::Boot { which: 0, fails: false })?;
            self.act(&Act::End(0))?;
            if !step && self.members == before {
                let hindered = self.pool.status.retry_at.is_some_and(|until| until > at(self.now));
                let full = self.ready() == self.wanted();
                if full && !hindered && self.decided_rest() {
                    return Ok(());
                }
            }
            self.now += 7;
        }
        prop_assert!(false, "no fixed point: {:#?}", self.pool);
        Ok(())
    }

    fn decided_rest(&self) -> bool {
        let image = self.image.as_deref().ok_or("it is not there");
        decide(&self.pool, &self.members, &Outlook { image, hindrance: None }, at(self.now)).next == Next::Rest
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// At every decision: never one too many, no claimed one ever, no update below its minimum, nothing without an
    /// image or paused, and the same decision again once it is committed. At the end: as wished for.
    #[test]
    fn random_histories_of_a_pool_come_to_rest_as_wished_for(
        acts in prop::collection::vec(act(), 1..80),
        max_starting in 0..4_u32,
        per_minute in prop::option::of(1..5_u32),
        max_ready in prop::option::of(5..60_u32),
    ) {
        let refill = Refill { debounce_milliseconds: 2000, max_starting, per_minute };
        let mut world = World::new(refill, max_ready);
        for act in &acts {
            world.act(act)?;
        }
        world.settle()?;
        prop_assert_eq!(world.ready(), world.wanted());
        prop_assert_eq!(said(&world.pool.status, "Progressing").1, "Complete");
        if world.pool.spec.update_strategy.kind != UpdateKind::OnReplenish {
            prop_assert_eq!(world.outdated(), 0);
            prop_assert_eq!(&world.pool.status.updating, &None);
        }
    }
}
