//! Which machine a claim gets.

use crate::model::{Container, ContainerPool, Phase};

/// Where a new claim goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// It takes this member, which is Ready.
    Warm(String),
    /// A machine is made for it.
    Cold,
    /// The pool is full.
    Full,
}

/// Places one claim in a pool, given all containers of the pool. The one that waited longest goes first.
pub fn place(pool: &ContainerPool, members: &[Container]) -> Placement {
    if pool.metadata.deleting() {
        return Placement::Full;
    }
    let warm = members.iter().filter(|c| claimable(c)).min_by_key(|c| (c.status.ready_at, &c.metadata.name));
    match warm {
        Some(member) => Placement::Warm(member.metadata.name.clone()),
        None if pool.status.containers < pool.spec.max_containers => Placement::Cold,
        None => Placement::Full,
    }
}

/// How many claims the pool could still take: what STAT tells as `available`.
pub fn available(pool: &ContainerPool, members: &[Container]) -> u32 {
    let warm = members.iter().filter(|c| claimable(c)).count() as u32;
    pool.spec.max_containers.saturating_sub(pool.status.containers) + warm
}

fn claimable(member: &Container) -> bool {
    member.status.phase == Phase::Ready && member.spec.claim.is_none() && !member.metadata.deleting()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::model::{ContainerSpec, ContainerStatus, Image, Machine, ObjectMeta, PoolSpec, PoolStatus, Template};

    fn pool(containers: u32) -> ContainerPool {
        let template = Template::of(Image::Iso("/image.iso".into()));
        ContainerPool {
            metadata: ObjectMeta::new("default", "default", Uuid::nil(), Timestamp::UNIX_EPOCH),
            spec: PoolSpec::of(0, 3, template),
            status: PoolStatus { containers, ..PoolStatus::default() },
        }
    }

    fn member(name: &str, phase: Phase, ready: i64) -> Container {
        let machine = Machine { mac: String::new(), port: 1, image_sha256: String::new() };
        let template = Template::of(Image::Iso("/image.iso".into()));
        Container {
            metadata: ObjectMeta::new("default", name, Uuid::nil(), Timestamp::UNIX_EPOCH),
            spec: ContainerSpec {
                pool: Some("default".into()),
                claim: None,
                template,
                scheduling_gates: vec![],
                machine,
            },
            status: ContainerStatus {
                phase,
                ready_at: Some(Timestamp::from_second(ready).unwrap()),
                ..ContainerStatus::default()
            },
        }
    }

    #[test]
    fn the_member_that_waited_longest_goes_first() {
        let members = [
            member("booting", Phase::Booting, 0),
            member("young", Phase::Ready, 9),
            member("old", Phase::Ready, 3),
            member("bound", Phase::Bound, 1),
        ];
        assert_eq!(place(&pool(4), &members), Placement::Warm("old".into()));
    }

    #[test]
    fn a_member_that_is_claimed_or_going_is_not_given_away() {
        let mut claimed = member("claimed", Phase::Ready, 1);
        claimed.spec.claim = Some("somebody".into());
        let mut going = member("going", Phase::Ready, 1);
        going.metadata.deletion_timestamp = Some(Timestamp::UNIX_EPOCH);
        assert_eq!(place(&pool(2), &[claimed.clone(), going.clone()]), Placement::Cold);
        assert_eq!(place(&pool(3), &[claimed, going]), Placement::Full);
    }

    #[test]
    fn nothing_is_placed_in_a_pool_that_is_deleted() {
        let mut pool = pool(0);
        pool.metadata.deletion_timestamp = Some(Timestamp::UNIX_EPOCH);
        assert_eq!(place(&pool, &[member("ready", Phase::Ready, 1)]), Placement::Full);
    }

    #[test]
    fn what_is_available_is_free_places_and_ready_members() {
        assert_eq!(available(&pool(0), &[]), 3);
        assert_eq!(available(&pool(2), &[member("a", Phase::Ready, 1), member("b", Phase::Bound, 1)]), 2);
        assert_eq!(available(&pool(3), &[]), 0);
        // A limit that was lowered below what runs.
        assert_eq!(available(&pool(9), &[]), 0);
    }
}
