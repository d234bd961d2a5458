//! The same with everything real: `anweddol serve`, libvirt, QEMU, guests, and OpenSSH clients that stay logged in through
//! every kill. In the lab, in both modes:
//!
//! ```text
//! tests/lab/run.sh               cargo nextest run --profile crash --no-capture --run-ignored only --test crash real
//! tests/lab/run.sh --no-libvirtd cargo nextest run --profile crash --no-capture --run-ignored only --test crash real
//! ```
//!
//! A *life* is that of one daemon. It ends while it starts, at a random time, when its log says that something was just
//! done, at a failpoint between two effects, or when everything is at rest; in system mode libvirt's own daemon dies now
//! and then, alone or in the same instant. After each death, what is recorded (in a copy of the store, so that the next
//! daemon finds what the last one left) and what is there (processes, files, sockets, rules) are held against what the
//! clients were told, and the sessions have to answer: with no daemon, and again with the next one.
//!
//! | variable | what |
//! | --- | --- |
//! | `ANWEDDOL_CRASH_KILLS` | how many lives; 16 |
//! | `ANWEDDOL_CRASH_SEED` | the seed; the time |

mod lab;
mod life;
mod session;

use crate::figures::Figures;
use crate::random::Random;
use crate::setting;

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn wherever_the_real_one_is_killed_nothing_is_lost_or_left_behind_and_nobody_is_disconnected() {
    let seed = crate::seed();
    let kills = setting("ANWEDDOL_CRASH_KILLS").unwrap_or(16);
    let mut figures = Figures::default();
    let mode = life::play(Random::new(seed), kills as usize, &mut figures);
    figures.conclude(&format!("real, {mode}"));
    assert!(figures.sessions > 0, "no session was open");
}
