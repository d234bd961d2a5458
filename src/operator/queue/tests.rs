use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tokio::time::sleep;
use uuid::Uuid;

use super::*;
use crate::allocations::held;
use crate::model::{Kind, ObjectRef};

/// What happened, in order; times in milliseconds since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Added(u8),
    Began(u8, u64),
    Ended(u8, u64),
}

struct Log {
    begin: Instant,
    seen: Mutex<Vec<Seen>>,
}

impl Log {
    fn new() -> Arc<Log> {
        Arc::new(Log { begin: Instant::now(), seen: Mutex::default() })
    }

    fn now(&self) -> u64 {
        self.begin.elapsed().as_millis() as u64
    }

    fn push(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
    }

    fn begun(&self) -> Vec<Begun> {
        let begun = |seen: &Seen| if let Seen::Began(key, at) = seen { Some((*key, *at)) } else { None };
        self.seen.lock().unwrap().iter().filter_map(begun).collect()
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A time after which nothing more happens in any test here; it takes no real time, since the clock is a fake.
const LONG: Duration = Duration::from_secs(3600);

/// A key, when it is added, and for how much later.
type Added = (u8, u64, u64);
/// A key, and when its pass begins.
type Begun = (u8, u64);

/// Runs a queue whose passes take `takes` and end as `ends` says.
async fn play(
    concurrency: usize,
    takes: Duration,
    ends: impl Fn(u8, usize) -> Requeue + Send + Sync + 'static,
    adds: &[Added],
) -> Vec<Begun> {
    let (queue, log, cancel) = (Queue::new(), Log::new(), CancellationToken::new());
    let (seen, ends, passes) = (Arc::clone(&log), Arc::new(ends), Arc::new(AtomicUsize::new(0)));
    let pass = move |key: u8| {
        let (log, ends, passes) = (Arc::clone(&seen), Arc::clone(&ends), Arc::clone(&passes));
        async move {
            log.push(Seen::Began(key, log.now()));
            sleep(takes).await;
            ends(key, passes.fetch_add(1, Ordering::SeqCst))
        }
    };
    let running = tokio::spawn(run(queue.clone(), NonZeroUsize::new(concurrency).unwrap(), pass, cancel.clone()));
    for &(key, at, delay) in adds {
        sleep_until(log.begin + ms(at)).await;
        queue.add_after(key, ms(delay));
    }
    sleep(LONG).await;
    cancel.cancel();
    running.await.unwrap();
    log.begun()
}

fn never(_: u8, _: usize) -> Requeue {
    Requeue::AwaitChange
}

#[tokio::test(start_paused = true)]
async fn keys_get_one_pass_each_at_the_earliest_time_asked_for() {
    let cases: [(&str, &[Added], &[Begun]); 7] = [
        ("at once", &[(1, 0, 0)], &[(1, 0)]),
        ("later", &[(1, 0, 70)], &[(1, 70)]),
        ("twice is once", &[(1, 0, 50), (1, 10, 40)], &[(1, 50)]),
        ("the earlier wins, second", &[(1, 0, 500), (1, 10, 20)], &[(1, 30)]),
        ("the earlier wins, first", &[(1, 0, 50), (1, 10, 500)], &[(1, 50)]),
        ("after its pass it is new", &[(1, 0, 0), (1, 200, 0)], &[(1, 0), (1, 200)]),
        ("by time, not by call", &[(1, 0, 90), (2, 0, 30), (3, 0, 60)], &[(2, 30), (3, 60), (1, 90)]),
    ];
    for (name, adds, expected) in cases {
        assert_eq!(play(4, ms(100), never, adds).await, expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_added_while_in_flight_runs_once_more_afterwards() {
    let adds = [(1, 0, 0), (1, 20, 0), (1, 30, 0), (1, 40, 500)];
    assert_eq!(play(4, ms(100), never, &adds).await, [(1, 0), (1, 100)]);
    let later = [(1, 0, 0), (1, 20, 500)];
    assert_eq!(play(4, ms(100), never, &later).await, [(1, 0), (1, 520)]);
}

#[tokio::test(start_paused = true)]
async fn a_pass_can_ask_for_another_and_an_add_can_bring_it_forward() {
    let twice = |_, passes| if passes == 0 { Requeue::After(ms(400)) } else { Requeue::AwaitChange };
    assert_eq!(play(4, ms(100), twice, &[(1, 0, 0)]).await, [(1, 0), (1, 500)]);
    assert_eq!(play(4, ms(100), twice, &[(1, 0, 0), (1, 200, 0)]).await, [(1, 0), (1, 200)]);
    assert_eq!(play(4, ms(100), twice, &[(1, 0, 0), (1, 50, 150)]).await, [(1, 0), (1, 200)]);
    let never_again = |_, _| Requeue::After(Duration::MAX);
    assert_eq!(play(4, ms(100), never_again, &[(1, 0, 0)]).await, [(1, 0)]);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_so_many_run_and_the_rest_in_order() {
    let adds = [(1, 0, 0), (2, 1, 0), (3, 2, 0), (4, 3, 0), (1, 4, 0)];
    let expected = [(1, 0), (2, 1), (3, 100), (4, 101), (1, 200)];
    assert_eq!(play(2, ms(100), never, &adds).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_repeated_with_growing_delay_and_stops_nobody_else() {
    let ends = |key, passes| {
        assert!(key != 1 || passes > 4, "on purpose");
        Requeue::AwaitChange
    };
    let begun = play(4, ms(100), ends, &[(1, 0, 0), (2, 50, 0)]).await;
    assert_eq!(begun, [(1, 0), (2, 50), (1, 1_100), (1, 3_200), (1, 7_300), (1, 15_400)]);
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_panics_before_its_first_await_is_no_different() {
    let (queue, log, cancel) = (Queue::new(), Log::new(), CancellationToken::new());
    let seen = Arc::clone(&log);
    let pass = move |key: u8| {
        let first = seen.begun().is_empty();
        seen.push(Seen::Began(key, seen.now()));
        assert!(!first, "on purpose, outside of the future");
        std::future::ready(Requeue::AwaitChange)
    };
    let running = tokio::spawn(run(queue.clone(), NonZeroUsize::MIN, pass, cancel.clone()));
    queue.add(1);
    sleep(LONG).await;
    cancel.cancel();
    running.await.unwrap();
    assert_eq!(log.begun(), [(1, 0), (1, 1_000)]);
}

#[test]
fn the_delay_after_panics_grows_up_to_its_limit() {
    let delays: Vec<u64> = [0, 1, 2, 8, 9, u32::MAX].map(|before| panic_delay(before).as_secs()).into();
    assert_eq!(delays, [1, 2, 4, 256, 300, 300]);
}

#[tokio::test(start_paused = true)]
async fn cancelling_starts_no_more_and_waits_for_what_is_in_flight() {
    let (queue, log, cancel) = (Queue::new(), Log::new(), CancellationToken::new());
    let seen = Arc::clone(&log);
    let pass = move |key: u8| {
        let log = Arc::clone(&seen);
        async move {
            log.push(Seen::Began(key, log.now()));
            sleep(ms(100)).await;
            log.push(Seen::Ended(key, log.now()));
            Requeue::After(Duration::ZERO)
        }
    };
    let running = tokio::spawn(run(queue.clone(), NonZeroUsize::MIN, pass, cancel.clone()));
    queue.add(1);
    queue.add(2);
    sleep(ms(50)).await;
    cancel.cancel();
    running.await.unwrap();
    assert_eq!(*log.seen.lock().unwrap(), [Seen::Began(1, 0), Seen::Ended(1, 100)]);
}

/// One thing that happens to the queue from outside, some time after the one before.
#[derive(Clone, Debug)]
struct Add {
    key: u8,
    pause: u64,
    delay: u64,
}

/// How one pass goes.
#[derive(Clone, Debug)]
struct Course {
    takes: u64,
    ends: End,
}

#[derive(Clone, Debug)]
enum End {
    Await,
    After(u64),
    Panic,
}

fn add() -> impl Strategy<Value = Add> {
    (0..5u8, 0..30u64, prop_oneof![Just(0), 0..100u64]).prop_map(|(key, pause, delay)| Add { key, pause, delay })
}

fn course() -> impl Strategy<Value = Course> {
    let ends = prop_oneof![4 => Just(End::Await), 2 => (0..80u64).prop_map(End::After), 1 => Just(End::Panic)];
    (0..60u64, ends).prop_map(|(takes, ends)| Course { takes, ends })
}

/// Plays adds against passes that go as told, the first ones that begin first; later ones end at once.
fn history(concurrency: usize, adds: Vec<Add>, courses: Vec<Course>) -> Vec<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (queue, log, cancel) = (Queue::new(), Log::new(), CancellationToken::new());
        let courses = Arc::new(Mutex::new(courses.into_iter()));
        let seen = Arc::clone(&log);
        let pass = move |key: u8| {
            let (log, courses) = (Arc::clone(&seen), Arc::clone(&courses));
            async move {
                log.push(Seen::Began(key, log.now()));
                let course = courses.lock().unwrap().next().unwrap_or(Course { takes: 1, ends: End::Await });
                sleep(ms(course.takes)).await;
                log.push(Seen::Ended(key, log.now()));
                match course.ends {
                    End::Await => Requeue::AwaitChange,
                    End::After(delay) => Requeue::After(ms(delay)),
                    End::Panic => panic!("on purpose"),
                }
            }
        };
        let running = tokio::spawn(run(queue.clone(), NonZeroUsize::new(concurrency).unwrap(), pass, cancel.clone()));
        for Add { key, pause, delay } in adds {
            sleep(ms(pause)).await;
            log.push(Seen::Added(key));
            queue.add_after(key, ms(delay));
        }
        sleep(LONG).await;
        cancel.cancel();
        running.await.unwrap();
        log.seen.lock().unwrap().clone()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn passes_never_overlap_nor_exceed_the_limit_and_no_key_is_lost(
        concurrency in 1..4usize,
        adds in prop::collection::vec(add(), 1..40),
        courses in prop::collection::vec(course(), 0..40),
    ) {
        let seen = history(concurrency, adds, courses);
        let mut in_flight = HashSet::new();
        let mut unseen = HashSet::new();
        for event in seen {
            match event {
                Seen::Added(key) => drop(unseen.insert(key)),
                Seen::Began(key, _) => {
                    prop_assert!(in_flight.insert(key), "two passes for {key}");
                    prop_assert!(in_flight.len() <= concurrency, "{in_flight:?} at once");
                    unseen.remove(&key);
                }
                Seen::Ended(key, _) => drop(in_flight.remove(&key)),
            }
        }
        prop_assert!(in_flight.is_empty());
        prop_assert!(unseen.is_empty(), "nobody saw that {unseen:?} were added");
    }
}

#[test]
fn a_key_that_waits_takes_little_more_than_itself() {
    let keys = 10_000;
    let add = |schedule: &mut Schedule<ObjectRef>, number: usize, at: Instant| {
        let name = Uuid::from_u128(number as u128).to_string();
        schedule.add(ObjectRef { kind: Kind::Container, namespace: "default".into(), name }, at);
    };
    let now = Instant::now();
    let (schedule, held) = held(|| {
        let mut schedule = Schedule::new();
        (0..keys).for_each(|number| add(&mut schedule, number, now + ms(number as u64 % 997)));
        schedule
    });
    assert_eq!(schedule.depth(now), [11, keys - 11, 0]);
    let held = held / keys;
    assert!(held < 180, "{held} bytes for a key that waits");
}
