//! Everything that can come, the nearest first: so what is found broken is found on one of the shortest ways.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fmt;

use super::system::{Act, State, System, Work};

/// How it went.
#[derive(Default)]
pub(super) struct Report {
    /// Different states that were met, and of those how many were gone on from.
    pub(super) states: usize,
    pub(super) expanded: usize,
    /// Steps from one to another.
    pub(super) steps: usize,
    /// States with records and world of their own: after each of them the daemon died, and everything came to rest.
    pub(super) durable: usize,
    /// States in which nothing was left to do.
    pub(super) rests: usize,
    /// Every way of fewer steps was gone to its end.
    pub(super) depth: usize,
    /// What is broken, and the way there.
    pub(super) broken: Option<Broken>,
}

pub(super) struct Broken {
    pub(super) what: String,
    pub(super) way: Vec<Act>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, after {} steps:", self.what, self.way.len())?;
        self.way.iter().enumerate().try_for_each(|(number, act)| write!(f, "\n  {:>2}. {act}", number + 1))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { states, expanded, steps, durable, rests, depth, broken } = self;
        let all = if expanded == states { "all there are" } else { "of more" };
        write!(f, "{states} states ({all}), {steps} steps, depth {depth}; ")?;
        write!(f, "{durable} crashed in, {rests} at rest")?;
        broken.iter().try_for_each(|broken| write!(f, "; BROKEN: {broken}"))
    }
}

/// How a state was come to: from which, by what, after how many steps.
struct Step {
    from: usize,
    act: Option<Act>,
    depth: usize,
}

/// Searches from the start until everything was seen, something is broken, or so many states are met.
pub(super) fn search(system: &System, start: State, most: usize) -> Report {
    let mut report = Report::default();
    let mut steps = vec![Step { from: 0, act: None, depth: 0 }];
    let mut met = HashSet::from([start.print()]);
    let mut good = BTreeSet::new();
    let mut open = VecDeque::from([(0, start)]);
    while let Some((number, state)) = open.pop_front() {
        report.depth = steps[number].depth;
        if met.len() >= most {
            break;
        }
        report.expanded += 1;
        let mut checked = || {
            state.check(system.bounds.most)?;
            let mut crashed = state.clone();
            system.settle(&mut crashed, &mut good).map_err(|what| format!("{what}, after a crash here"))
        };
        if let Err(what) = checked() {
            report.broken = Some(Broken { what, way: way(&steps, number, None) });
            break;
        }
        let mut rests = state.tasks.is_empty();
        for act in system.acts(&state) {
            let next = match system.next(&state, &act) {
                Ok(None) => continue,
                Ok(Some(next)) => next,
                Err(what) => {
                    report.broken = Some(Broken { what, way: way(&steps, number, Some(act)) });
                    break;
                }
            };
            report.steps += 1;
            rests &= !matches!(act, Act::Begin(Work::Pass(_), None) | Act::Tell(_) | Act::Fail(_));
            if met.insert(next.print()) {
                steps.push(Step { from: number, act: Some(act), depth: steps[number].depth + 1 });
                open.push_back((steps.len() - 1, next));
            }
        }
        if rests && report.broken.is_none() {
            report.rests += 1;
            if let Err(what) = state.check_rest() {
                report.broken = Some(Broken { what, way: way(&steps, number, None) });
            }
        }
        if report.broken.is_some() {
            break;
        }
    }
    Report { states: met.len(), durable: good.len(), ..report }
}

fn way(steps: &[Step], mut number: usize, last: Option<Act>) -> Vec<Act> {
    let mut way: Vec<Act> = last.into_iter().collect();
    while let Some(act) = &steps[number].act {
        way.push(act.clone());
        number = steps[number].from;
    }
    way.reverse();
    way
}
