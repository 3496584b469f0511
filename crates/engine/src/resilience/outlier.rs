//! Ejects endpoints that keep failing (`cluster.v3.OutlierDetection`, the consecutive kinds).

use model::cluster::OutlierDetection;
use std::time::Duration;

/// Per endpoint, per worker. Times are durations since an arbitrary start.
#[derive(Clone, Debug, Default)]
pub struct Record {
    consecutive_5xx: u32,
    consecutive_gateway: u32,
    consecutive_local: u32,
    ejections: u32,
    ejected_until: Option<Duration>,
}

/// What a request said about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    Status(u16),
    /// Connect failure, connect timeout or reset: no answer at all.
    LocalOrigin,
    ConnectOk,
}

impl Record {
    /// Notes `sign`; true when the endpoint should be ejected.
    pub fn note(&mut self, config: &OutlierDetection, sign: Sign) -> bool {
        let over = |count: u32, limit: u32| limit > 0 && count >= limit;
        match sign {
            Sign::ConnectOk => {
                self.consecutive_local = 0;
                false
            }
            Sign::LocalOrigin if config.split_external_local_origin_errors => {
                self.consecutive_local += 1;
                over(self.consecutive_local, config.consecutive_local_origin_failure)
            }
            Sign::LocalOrigin => self.note_status(config, 503),
            Sign::Status(status) => self.note_status(config, status),
        }
    }

    fn note_status(&mut self, config: &OutlierDetection, status: u16) -> bool {
        let over = |count: u32, limit: u32| limit > 0 && count >= limit;
        if status < 500 {
            self.consecutive_5xx = 0;
            self.consecutive_gateway = 0;
            self.consecutive_local = 0;
            return false;
        }
        self.consecutive_5xx += 1;
        self.consecutive_gateway = if matches!(status, 502..=504) { self.consecutive_gateway + 1 } else { 0 };
        over(self.consecutive_5xx, config.consecutive_5xx)
            || over(self.consecutive_gateway, config.consecutive_gateway_failure)
    }

    pub fn is_ejected(&self) -> bool {
        self.ejected_until.is_some()
    }

    /// Ejects for the base time times the number of ejections, up to the maximum.
    pub fn eject(&mut self, config: &OutlierDetection, now: Duration) {
        self.ejections += 1;
        let time = config.base_ejection_time.saturating_mul(self.ejections);
        self.ejected_until = Some(now + time.min(config.max_ejection_time.max(config.base_ejection_time)));
        self.consecutive_5xx = 0;
        self.consecutive_gateway = 0;
        self.consecutive_local = 0;
    }

    /// Called every interval; true when the endpoint comes back. Time without ejection lowers the multiplier.
    pub fn tick(&mut self, now: Duration) -> bool {
        match self.ejected_until {
            Some(until) if now >= until => {
                self.ejected_until = None;
                true
            }
            Some(_) => false,
            None => {
                self.ejections = self.ejections.saturating_sub(1);
                false
            }
        }
    }
}

/// May one more of `total` hosts be ejected? One always may.
pub fn may_eject(config: &OutlierDetection, ejected: usize, total: usize) -> bool {
    ejected == 0 || (ejected + 1) * 100 <= config.max_ejection_percent as usize * total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> OutlierDetection {
        OutlierDetection {
            consecutive_5xx: 3,
            consecutive_gateway_failure: 0,
            consecutive_local_origin_failure: 2,
            split_external_local_origin_errors: true,
            interval: Duration::from_secs(1),
            base_ejection_time: Duration::from_secs(5),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: 50,
        }
    }

    #[test]
    fn consecutive_only() {
        let mut record = Record::default();
        let config = config();
        let signs = [500, 500, 200, 500, 500].map(Sign::Status);
        assert!(!signs.into_iter().any(|sign| record.note(&config, sign)));
        assert!(record.note(&config, Sign::Status(500)));
    }

    #[test]
    fn local_failures_and_return() {
        let mut record = Record::default();
        let config = config();
        assert!(!record.note(&config, Sign::LocalOrigin));
        assert!(record.note(&config, Sign::LocalOrigin));
        record.eject(&config, Duration::from_secs(10));
        assert!(record.is_ejected());
        assert!(!record.tick(Duration::from_secs(14)));
        assert!(record.tick(Duration::from_secs(15)));
        record.eject(&config, Duration::from_secs(20));
        assert!(!record.tick(Duration::from_secs(29)), "the second ejection lasts twice as long");
        assert!(record.tick(Duration::from_secs(30)));
    }

    #[test]
    fn limits() {
        let config = config();
        assert!(may_eject(&config, 0, 1));
        assert!(may_eject(&config, 1, 4));
        assert!(!may_eject(&config, 2, 4));
    }
}
