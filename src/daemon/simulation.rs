//! What a simulation is told on the command line.

use std::str::FromStr;
use std::time::Duration;

/// How `serve --simulate` behaves: `boot=200ms,fail=0.01`, in any order, all optional.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Simulation {
    /// How long a machine takes to boot.
    pub boot: Duration,
    /// The share of calls that fail, 0 to 1.
    pub fail: f64,
}

impl Default for Simulation {
    fn default() -> Self {
        Simulation { boot: Duration::from_millis(200), fail: 0.0 }
    }
}

impl FromStr for Simulation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut simulation = Simulation::default();
        for setting in text.split(',').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=') {
                Some(("boot", value)) => simulation.boot = duration(value)?,
                Some(("fail", value)) => {
                    let share = value.parse().ok().filter(|share| (0.0..=1.0).contains(share));
                    simulation.fail = share.ok_or_else(|| format!("fail={value}: write a number from 0 to 1"))?;
                }
                _ => return Err(format!("'{setting}' is no setting: write boot=TIME or fail=SHARE")),
            }
        }
        Ok(simulation)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("boot={text}: write a whole number with ms or s, as 200ms");
    let (number, millis) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s').ok_or_else(bad)?, 1000),
    };
    let number: u32 = number.parse().map_err(|_| bad())?;
    Ok(Duration::from_millis(u64::from(number) * millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_is_read_from_its_settings() {
        let simulation = |boot, fail| Ok(Simulation { boot: Duration::from_millis(boot), fail });
        assert_eq!("".parse(), simulation(200, 0.0));
        assert_eq!("boot=1s".parse(), simulation(1000, 0.0));
        assert_eq!("fail=0.5,boot=5ms".parse(), simulation(5, 0.5));
        for bad in ["boot", "boot=1", "boot=-1s", "fail=2", "fail=x", "speed=9"] {
            assert!(bad.parse::<Simulation>().is_err(), "{bad} was taken");
        }
    }
}
