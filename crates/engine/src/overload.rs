//! What the pressure on resources calls for: how far each action is active.

use model::overload::{Action, Trigger};

/// From 0, not at all, to 1, saturated.
fn state(trigger: Trigger, pressure: f64) -> f64 {
    match trigger {
        Trigger::Threshold(value) => f64::from(u8::from(pressure >= value)),
        Trigger::Scaled { from, to } if pressure >= to && pressure > from => 1.0,
        Trigger::Scaled { from, .. } if pressure <= from => 0.0,
        Trigger::Scaled { from, to } => (pressure - from) / (to - from),
    }
}

/// How far `action` is active: as far as its most urgent trigger. A pressure that is not known calls for nothing.
pub fn activity(action: &Action, pressures: &[Option<f64>]) -> f64 {
    let states = action.triggers.iter().map(|(resource, trigger)| {
        let pressure = pressures.get(*resource).copied().flatten();
        pressure.map_or(0.0, |pressure| state(*trigger, pressure))
    });
    states.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::overload::ActionKind;

    #[test]
    fn the_most_urgent_trigger_decides() {
        let triggers = vec![(0, Trigger::Threshold(0.9)), (1, Trigger::Scaled { from: 0.5, to: 0.7 })];
        let action = Action { kind: ActionKind::StopAcceptingRequests, triggers };
        let table = [
            ([Some(0.89), Some(0.5)], 0.0),
            ([Some(0.9), Some(0.5)], 1.0),
            ([Some(0.0), Some(0.6)], 0.5),
            ([Some(0.0), Some(0.7)], 1.0),
            ([Some(0.0), Some(2.0)], 1.0),
            ([None, None], 0.0),
            ([None, Some(0.55)], 0.25),
        ];
        for (pressures, wanted) in table {
            let got = activity(&action, &pressures);
            assert!((got - wanted).abs() < 1e-9, "{pressures:?}: {got}");
        }
    }
}
