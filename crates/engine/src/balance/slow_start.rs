//! Slow start: the weight of a host that became healthy a short while ago grows to its full size.

use super::Hosts;
use model::balance::SlowStart;
use std::time::Duration;

/// Whether a host is still growing.
pub fn any(config: &Option<SlowStart>, hosts: &impl Hosts, now: Duration) -> bool {
    let Some(config) = config else { return false };
    (0..hosts.len()).any(|host| now.saturating_sub(hosts.healthy_since(host)) < config.window)
}

/// The weight that counts now.
pub fn weight(config: &Option<SlowStart>, hosts: &impl Hosts, host: usize, now: Duration) -> f64 {
    let full = f64::from(hosts.weight(host));
    match config {
        Some(config) => full * factor(config, now.saturating_sub(hosts.healthy_since(host))),
        None => full,
    }
}

/// `max(min_weight, (age / window) ^ (1 / aggression))`, as Envoy documents it.
pub fn factor(config: &SlowStart, age: Duration) -> f64 {
    if age >= config.window {
        return 1.0;
    }
    let share = age.max(Duration::from_millis(1)).as_secs_f64() / config.window.as_secs_f64();
    share.powf(1.0 / config.aggression).max(config.min_weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_as_documented() {
        let config = |aggression, min_weight| SlowStart { window: Duration::from_secs(60), aggression, min_weight };
        // Aggression, least share, age in seconds, expected share.
        let cases = [
            (1.0, 0.1, 0, 0.1),
            (1.0, 0.1, 30, 0.5),
            (1.0, 0.1, 60, 1.0),
            (1.0, 0.1, 600, 1.0),
            (2.0, 0.1, 15, 0.5),
            (0.5, 0.1, 30, 0.25),
            (0.5, 0.3, 30, 0.3),
        ];
        for (aggression, least, age, expected) in cases {
            let found = factor(&config(aggression, least), Duration::from_secs(age));
            assert!((found - expected).abs() < 1e-9, "{aggression} {least} {age}: {found}");
        }
    }
}
