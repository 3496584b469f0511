//! Round robin: every host in turn, in proportion to the weights.

use super::schedule::Schedule;
use super::{Hosts, Pick, slow_start};
use model::balance::SlowStart;

#[derive(Clone, Debug)]
pub struct RoundRobin {
    slow_start: Option<SlowStart>,
    turns: Turns,
}

/// Equal hosts need no schedule.
#[derive(Clone, Debug)]
enum Turns {
    Plain(usize),
    Weighted(Schedule),
}

impl RoundRobin {
    pub fn new(slow_start: Option<SlowStart>, hosts: &impl Hosts, pick: &mut Pick<'_>) -> Self {
        let plain = super::equal_weights(hosts) && !slow_start::any(&slow_start, hosts, pick.now);
        let turns = if plain {
            Turns::Plain(pick.random.usize(..))
        } else {
            let weights = (0..hosts.len()).map(|host| slow_start::weight(&slow_start, hosts, host, pick.now));
            Turns::Weighted(Schedule::new(weights, pick.random.f64()))
        };
        RoundRobin { slow_start, turns }
    }

    pub fn pick(&mut self, hosts: &impl Hosts, pick: &mut Pick<'_>) -> Option<usize> {
        match &mut self.turns {
            Turns::Plain(next) => {
                *next = next.wrapping_add(1);
                next.checked_rem(hosts.len())
            }
            Turns::Weighted(schedule) => {
                schedule.pick(|host| slow_start::weight(&self.slow_start, hosts, host, pick.now))
            }
        }
    }
}
