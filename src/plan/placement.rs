//! Which machine a claim gets.
//!
//! A pool's places stand in a row: members that are Ready, the one that waited longest first; then members on their
//! way, the one furthest on it first; then those that could still be made. Claims stand in a row too, and the first
//! takes the first: whoever comes to a queue leaves as many places untaken as there are claims before it.

use std::collections::HashSet;

use jiff::Timestamp;
use uuid::Uuid;

use crate::model::{Container, ContainerPool, Phase};

/// Where a claim goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement<M> {
    /// It takes this member, which is Ready.
    Warm(M),
    /// It takes this member, which is on its way, and is bound when that is Ready.
    Rising(M),
    /// A machine is made for it.
    Cold,
    /// The pool is full.
    Full,
}

/// What placement has to know of a claim and of the moment.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Claims that came before and have no place yet.
    pub ahead: usize,
    /// Whether somebody has to see its machine before that is started: one on its way is started already.
    pub reviewed: bool,
    /// Containers whose end was hinted at and not yet looked for.
    pub doubtful: &'a HashSet<Uuid>,
}

/// Where a container of a pool stands in the row of its places: the least is taken first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn<'a> {
    standing: Standing,
    /// Since when it stands there.
    since: Option<Timestamp>,
    name: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Ready,
    Booting,
    Pending,
    /// It is a claim's, ends, or waits for something.
    NotFree,
}

/// A container's turn, whatever its pool is like.
pub fn turn(c: &Container) -> Turn<'_> {
    let (standing, since) = standing(c);
    Turn { standing, since, name: &c.metadata.name }
}

fn standing(c: &Container) -> (Standing, Option<Timestamp>) {
    let free = c.spec.claim.is_none() && !c.metadata.deleting();
    // One with trouble may not arrive; a fresh one is the better bet.
    let arrives = c.spec.scheduling_gates.is_empty() && c.status.failures == 0;
    match c.status.phase {
        Phase::Ready if free => (Standing::Ready, c.status.ready_at),
        Phase::Booting if free && arrives => (Standing::Booting, Some(c.metadata.creation_timestamp)),
        Phase::Pending if free && arrives => (Standing::Pending, Some(c.metadata.creation_timestamp)),
        _ => (Standing::NotFree, None),
    }
}

/// Places one claim in a pool, given all containers of the pool in the order of their [`turn`], each with what its caller
/// knows it by. It looks at no more of them than stand before the one that it takes.
pub fn place<'a, M>(
    pool: &ContainerPool,
    members: impl IntoIterator<Item = (&'a Container, M)>,
    asking: Asking<'_>,
) -> Placement<M> {
    let takes = |place: &Place<M>| !(asking.reviewed && matches!(place, Place::Rising(_)));
    let mut places = row(pool, members, asking.doubtful).skip(asking.ahead);
    match places.find(takes) {
        Some(Place::Warm(member)) => Placement::Warm(member),
        Some(Place::Rising(member)) => Placement::Rising(member),
        Some(Place::Cold) => Placement::Cold,
        None => Placement::Full,
    }
}

/// How many claims the pool could still take besides those that wait already, on a host with room for so many machines
/// more: what STAT tells as `available`.
pub fn available<'a>(
    pool: &ContainerPool,
    members: impl IntoIterator<Item = &'a Container>,
    waiting: usize,
    room: u64,
) -> u32 {
    let (doubtful, room) = (HashSet::new(), usize::try_from(room).unwrap_or(usize::MAX));
    let (mut made, mut unmade) = (0_usize, 0_usize);
    for place in row(pool, members.into_iter().map(|member| (member, ())), &doubtful) {
        match place {
            Place::Warm(_) | Place::Rising(_) => made += 1,
            Place::Cold => unmade += 1,
        }
    }
    u32::try_from((made + unmade.min(room)).saturating_sub(waiting)).unwrap_or(u32::MAX)
}

enum Place<M> {
    Warm(M),
    Rising(M),
    Cold,
}

fn row<'a, M>(
    pool: &ContainerPool,
    members: impl IntoIterator<Item = (&'a Container, M)>,
    doubtful: &HashSet<Uuid>,
) -> impl Iterator<Item = Place<M>> {
    let open = !pool.metadata.deleting();
    let standing = members.into_iter().map(|(c, member)| (standing(c).0, c, member));
    let free = standing.take_while(move |(standing, ..)| open && *standing != Standing::NotFree);
    let free = free.filter_map(move |(standing, c, member)| match standing {
        Standing::Ready => (!doubtful.contains(&c.uuid())).then_some(Place::Warm(member)),
        Standing::Booting | Standing::Pending => Some(Place::Rising(member)),
        Standing::NotFree => None,
    });
    let unmade = match open && !pool.spec.paused {
        true => pool.spec.max_containers.saturating_sub(pool.status.containers),
        false => 0,
    };
    free.chain((0..unmade).map(|_| Place::Cold))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::model::{
        ContainerSpec, ContainerStatus, Image, Mac, Machine, ObjectMeta, PoolSpec, PoolStatus, Template,
    };

    fn pool(containers: u32) -> ContainerPool {
        let template = Template::of(Image::Iso("/image.iso".into()));
        ContainerPool {
            metadata: ObjectMeta::new("default", "default", Uuid::nil(), Timestamp::UNIX_EPOCH),
            spec: PoolSpec::of(0, 3, template),
            status: PoolStatus { containers, ..PoolStatus::default() },
        }
    }

    fn member(name: &str, phase: Phase, ready: i64) -> Container {
        let machine = Machine { mac: Mac::default(), port: 1, image_sha256: "".into() };
        let template = Template::of(Image::Iso("/image.iso".into()));
        Container {
            metadata: ObjectMeta::new("default", name, Uuid::nil(), Timestamp::UNIX_EPOCH),
            spec: ContainerSpec {
                pool: Some("default".into()),
                claim: None.into(),
                template: template.into(),
                scheduling_gates: vec![].into(),
                machine,
            },
            status: ContainerStatus {
                phase,
                ready_at: Some(Timestamp::from_second(ready).unwrap()),
                ..ContainerStatus::default()
            },
        }
    }

    fn warm(name: &str) -> Placement<String> {
        Placement::Warm(name.into())
    }

    fn place_behind(ahead: usize, pool: &ContainerPool, members: &[Container]) -> Placement<String> {
        asked(pool, members, Asking { ahead, reviewed: false, doubtful: &HashSet::new() })
    }

    /// As they stand in the row.
    fn in_order(members: &[Container]) -> Vec<&Container> {
        let mut members: Vec<&Container> = members.iter().collect();
        members.sort_by_key(|member| turn(member));
        members
    }

    fn asked(pool: &ContainerPool, members: &[Container], asking: Asking<'_>) -> Placement<String> {
        super::place(pool, in_order(members).into_iter().map(|c| (c, c.metadata.name.clone())), asking)
    }

    fn available(pool: &ContainerPool, members: &[Container], waiting: usize, room: u64) -> u32 {
        super::available(pool, in_order(members), waiting, room)
    }

    fn place(pool: &ContainerPool, members: &[Container]) -> Placement<String> {
        place_behind(0, pool, members)
    }

    #[test]
    fn the_member_that_waited_longest_goes_first() {
        let members = [
            member("booting", Phase::Booting, 0),
            member("young", Phase::Ready, 9),
            member("old", Phase::Ready, 3),
            member("bound", Phase::Bound, 1),
        ];
        assert_eq!(place(&pool(4), &members), warm("old"));
    }

    #[test]
    fn a_member_that_is_claimed_or_going_is_not_given_away() {
        let mut claimed = member("claimed", Phase::Ready, 1);
        claimed.spec.claim = Some("somebody".to_owned()).into();
        let mut going = member("going", Phase::Ready, 1);
        going.metadata.deletion_timestamp = Some(Timestamp::UNIX_EPOCH).into();
        assert_eq!(place(&pool(2), &[claimed.clone(), going.clone()]), Placement::Cold);
        assert_eq!(place(&pool(3), &[claimed, going]), Placement::Full);
    }

    #[test]
    fn nothing_is_placed_in_a_pool_that_is_deleted() {
        let mut pool = pool(0);
        pool.metadata.deletion_timestamp = Some(Timestamp::UNIX_EPOCH).into();
        assert_eq!(place(&pool, &[member("ready", Phase::Ready, 1)]), Placement::Full);
    }

    #[test]
    fn without_a_ready_member_the_one_furthest_on_its_way_is_taken_before_another_is_made() {
        let mut troubled = member("troubled", Phase::Booting, 0);
        troubled.status.failures = 1;
        let mut gated = member("gated", Phase::Pending, 0);
        gated.spec.scheduling_gates.push("somebody".into());
        let mut young = member("a-young", Phase::Booting, 0);
        young.metadata.creation_timestamp = Timestamp::from_second(9).unwrap();
        let members = [member("pending", Phase::Pending, 0), young, member("old", Phase::Booting, 0), troubled, gated];
        let rising = |name: &str| Placement::Rising(name.into());
        let behind = |ahead| place_behind(ahead, &pool(2), &members);
        assert_eq!([behind(0), behind(1), behind(2)], [rising("old"), rising("a-young"), rising("pending")]);
        assert_eq!([behind(3), behind(4)], [Placement::Cold, Placement::Full]);
        let reviewed = Asking { ahead: 0, reviewed: true, doubtful: &HashSet::new() };
        assert_eq!(asked(&pool(2), &members, reviewed), Placement::Cold, "it could not be looked at any more");
    }

    #[test]
    fn nobody_overtakes_claims_that_wait() {
        let members = [member("a", Phase::Ready, 1), member("b", Phase::Ready, 2)];
        let behind = |ahead| place_behind(ahead, &pool(2), &members);
        assert_eq!([behind(0), behind(1)], [warm("a"), warm("b")]);
        assert_eq!([behind(2), behind(3)], [Placement::Cold, Placement::Full]);
        assert_eq!([available(&pool(2), &members, 1, 9), available(&pool(2), &members, 9, 9)], [2, 0]);
    }

    #[test]
    fn a_member_whose_death_was_hinted_at_is_passed_over() {
        let mut dead = member("dead", Phase::Ready, 1);
        dead.metadata.uid = Uuid::from_u128(1);
        let doubtful = HashSet::from([dead.uuid()]);
        let asking = Asking { ahead: 0, reviewed: false, doubtful: &doubtful };
        assert_eq!(asked(&pool(2), &[dead.clone(), member("b", Phase::Ready, 2)], asking), warm("b"));
        assert_eq!(asked(&pool(1), std::slice::from_ref(&dead), asking), Placement::Cold);
        assert_eq!(asked(&pool(3), &[dead], asking), Placement::Full);
    }

    #[test]
    fn a_paused_pool_gives_away_what_is_there_and_makes_nothing() {
        let mut paused = pool(1);
        paused.spec.paused = true;
        assert_eq!(place(&paused, &[member("a", Phase::Ready, 1)]), warm("a"));
        assert_eq!(place(&paused, &[]), Placement::Full);
    }

    #[test]
    fn what_is_available_is_free_places_and_ready_members() {
        let members = [member("a", Phase::Ready, 1), member("b", Phase::Bound, 1)];
        assert_eq!(available(&pool(0), &[], 0, u64::MAX), 3);
        assert_eq!(available(&pool(2), &members, 0, u64::MAX), 2);
        assert_eq!(available(&pool(3), &[], 0, u64::MAX), 0);
        // A limit that was lowered below what runs.
        assert_eq!(available(&pool(9), &[], 0, u64::MAX), 0);
        // A host that takes fewer than the pool allows.
        assert_eq!([available(&pool(0), &[], 0, 1), available(&pool(1), &members, 0, 0)], [1, 1]);
    }
}
