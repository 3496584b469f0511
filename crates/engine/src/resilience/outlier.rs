//! Ejects hosts that fail where others do not (`cluster.v3.OutlierDetection`), as Envoy documents it.
//!
//! A worker judges by the requests that it sent itself. Times are durations since any fixed moment.

use model::cluster::{Cause, OutlierDetection, WindowedSuccessRate};
use std::time::Duration;

/// What one worker remembers of a host.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// By the first three of `Cause`.
    consecutive: [u32; 3],
    /// Requests of the interval under way and of the one before, from the server and from the way there.
    server: Window,
    way: Window,
    /// How often the base time is multiplied at the next ejection.
    multiplier: u32,
    ejection: Option<Ejection>,
    probe: Probe,
    /// For the windowed success rate: when the window under way began, and what it and the last counted.
    window_since: Duration,
    windowed: Window,
    returned_at: Option<Duration>,
}

/// Whether a host that was ejected has shown that it works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Probe {
    #[default]
    None,
    /// The next request will tell.
    Due,
    UnderWay,
}

#[derive(Clone, Copy, Debug)]
struct Ejection {
    at: Duration,
    jitter: Duration,
}

/// Successes and all requests, of this interval and the last.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    now: (u32, u32),
    last: (u32, u32),
}

/// What a request said about its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The status of its answer; that of a gRPC answer as its HTTP equivalent.
    Status(u16),
    /// Connect failure, connect timeout or reset: no answer at all.
    LocalOrigin,
    /// No answer in time.
    Timeout,
    /// There is a connection; the answer is still to come.
    ConnectOk,
    /// There is a connection, and no more is to be expected: TCP.
    ConnectOkFinal,
}

/// Where failures come from: the server's answers, or the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Server,
    Way,
}

/// What becomes of a detected outlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Eject,
    /// Only detected, by the enforcing percentage.
    Spare,
    /// Too many are ejected already.
    Overflow,
}

impl Sign {
    /// Whether the request went well, if that is known.
    fn success(self) -> Option<bool> {
        match self {
            Sign::Status(status) => Some(status < 500),
            Sign::LocalOrigin | Sign::Timeout => Some(false),
            Sign::ConnectOkFinal => Some(true),
            Sign::ConnectOk => None,
        }
    }
}

impl Window {
    fn count(&mut self, success: bool) {
        self.now.0 += u32::from(success);
        self.now.1 += 1;
    }

    fn roll(&mut self) {
        self.last = std::mem::take(&mut self.now);
    }

    /// Of this interval and the last.
    fn both(&self) -> (u32, u32) {
        (self.now.0 + self.last.0, self.now.1 + self.last.1)
    }

    /// Percent of successes, and requests, of the last interval.
    fn rate(&self) -> Option<(f64, u32)> {
        let (successes, all) = self.last;
        (all > 0).then(|| (f64::from(successes) * 100.0 / f64::from(all), all))
    }
}

impl Record {
    /// Notes `sign`; the triggers it pulls.
    pub fn note(&mut self, config: &OutlierDetection, sign: Sign, now: Duration) -> [Option<Cause>; 2] {
        if let Some(windowed) = &config.windowed
            && let Some(success) = sign.success()
        {
            let probed = std::mem::take(&mut self.probe) != Probe::None;
            if probed && !success || self.too_low(windowed, success, now) {
                return [Some(Cause::WindowedSuccessRate), None];
            }
        }
        let split = config.split_external_local_origin_errors;
        match sign {
            Sign::Status(status) => self.answer(config, status),
            Sign::ConnectOk | Sign::ConnectOkFinal if split => {
                self.way.count(true);
                self.consecutive[2] = 0;
                [None, None]
            }
            Sign::ConnectOk => [None, None],
            Sign::ConnectOkFinal => self.answer(config, 200),
            Sign::LocalOrigin | Sign::Timeout if split => {
                self.way.count(false);
                [self.one_more(Cause::ConsecutiveLocalOriginFailure, config.consecutive_local_origin_failure), None]
            }
            Sign::LocalOrigin => self.answer(config, 503),
            Sign::Timeout => self.answer(config, 504),
        }
    }

    /// Counts into the window; true when its success rate is too low.
    fn too_low(&mut self, config: &WindowedSuccessRate, success: bool, now: Duration) -> bool {
        let half = config.window / 2;
        let age = now.saturating_sub(self.window_since);
        if age >= half {
            self.windowed.roll();
            if age >= config.window {
                self.windowed.roll();
            }
            self.window_since = now;
        }
        self.windowed.count(success);
        let (successes, all) = self.windowed.both();
        all >= config.minimum_requests && f64::from(successes) * 100.0 < config.threshold * f64::from(all)
    }

    /// A request is sent to the host; true when it is the one that will tell whether the host works again.
    pub fn begin_probe(&mut self) -> bool {
        let due = self.probe == Probe::Due;
        if due {
            self.probe = Probe::UnderWay;
        }
        due
    }

    /// The request under way will tell nothing; true when the host waits for another one.
    pub fn end_probe(&mut self) -> bool {
        let under_way = self.probe == Probe::UnderWay;
        if under_way {
            self.probe = Probe::Due;
        }
        under_way
    }

    /// No request may be sent, by ejection or because one is on its way to tell.
    pub fn is_out(&self) -> bool {
        self.ejection.is_some() || self.probe == Probe::UnderWay
    }

    fn answer(&mut self, config: &OutlierDetection, status: u16) -> [Option<Cause>; 2] {
        self.server.count(status < 500);
        if status < 500 {
            self.consecutive[..2].fill(0);
            return [None, None];
        }
        let gateway = if matches!(status, 502..=504) {
            self.one_more(Cause::ConsecutiveGatewayFailure, config.consecutive_gateway_failure)
        } else {
            self.consecutive[Cause::ConsecutiveGatewayFailure as usize] = 0;
            None
        };
        [gateway, self.one_more(Cause::Consecutive5xx, config.consecutive_5xx)]
    }

    fn one_more(&mut self, cause: Cause, limit: u32) -> Option<Cause> {
        let count = &mut self.consecutive[cause as usize];
        *count += 1;
        let reached = *count == limit;
        if reached && self.ejection.is_none() {
            *count = 0;
        }
        (reached && self.ejection.is_none()).then_some(cause)
    }

    pub fn is_ejected(&self) -> bool {
        self.ejection.is_some()
    }

    /// Ejects for the base time times the multiplier, which grows. `random` is uniform in `[0, 1)`.
    pub fn eject(&mut self, config: &OutlierDetection, now: Duration, random: f64) {
        self.windowed = Window::default();
        self.probe = Probe::None;
        self.ejection = Some(Ejection { at: now, jitter: config.max_ejection_time_jitter.mul_f64(random) });
        if config.base_ejection_time * self.multiplier < config.max_ejection_time + config.base_ejection_time {
            self.multiplier += 1;
        }
    }

    /// At the end of an interval: begins a new window; true when the host comes back.
    pub fn interval(&mut self, config: &OutlierDetection, now: Duration) -> bool {
        self.server.roll();
        self.way.roll();
        let Some(ejection) = self.ejection else { return false };
        let time = (config.base_ejection_time * self.multiplier).min(config.max_ejection_time) + ejection.jitter;
        if now.saturating_sub(ejection.at) < time {
            return false;
        }
        self.ejection = None;
        self.probe = if config.windowed.is_some() { Probe::Due } else { Probe::None };
        self.returned_at = Some(now);
        self.consecutive = [0; 3];
        true
    }

    /// At the end of an interval, after ejections: an interval without one lowers the multiplier.
    pub fn rest(&mut self, config: &OutlierDetection, now: Duration) {
        let rested = self.returned_at.is_some_and(|at| now.saturating_sub(at) >= config.interval);
        if self.ejection.is_none() && rested {
            self.multiplier = self.multiplier.saturating_sub(1);
        }
    }

    /// Percent of successes, and requests, of the last interval; `None` while it is ejected.
    pub fn rate(&self, origin: Origin) -> Option<(f64, u32)> {
        let window = if origin == Origin::Server { &self.server } else { &self.way };
        window.rate().filter(|_| self.ejection.is_none())
    }
}

/// Whether a host that was detected is ejected, while `ejected` of `total` are. `random` is uniform in `[0, 1)`.
pub fn judge(config: &OutlierDetection, cause: Cause, ejected: usize, total: usize, random: f64) -> Verdict {
    let share = 100.0 * (ejected + 1) as f64 / total as f64;
    let room = share <= f64::from(config.max_ejection_percent) || (config.always_eject_one_host && ejected == 0);
    match room {
        false => Verdict::Overflow,
        true if random * 100.0 < f64::from(config.enforcing[cause as usize]) => Verdict::Eject,
        true => Verdict::Spare,
    }
}

/// Hosts, by index into `rates`, that did worse than the others in the last interval.
pub fn outliers(config: &OutlierDetection, origin: Origin, rates: &[Option<(f64, u32)>]) -> Vec<(usize, Cause)> {
    let with_volume = |volume: u32| {
        let rates = rates.iter().enumerate();
        rates
            .filter_map(move |(host, rate)| rate.filter(|(_, requests)| *requests >= volume).map(|rate| (host, rate.0)))
    };
    let (by_rate, by_percentage) = match origin {
        Origin::Server => (Cause::SuccessRate, Cause::FailurePercentage),
        Origin::Way => (Cause::LocalOriginSuccessRate, Cause::LocalOriginFailurePercentage),
    };
    let mut found = Vec::new();
    let hosts: Vec<(usize, f64)> = with_volume(config.success_rate.request_volume).collect();
    if !hosts.is_empty() && hosts.len() >= config.success_rate.minimum_hosts as usize {
        let count = hosts.len() as f64;
        let mean = hosts.iter().map(|(_, rate)| rate).sum::<f64>() / count;
        let variance = hosts.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
        let threshold = mean - config.success_rate.stdev_factor * variance.sqrt();
        found.extend(hosts.iter().filter(|(_, rate)| *rate < threshold).map(|(host, _)| (*host, by_rate)));
    }
    let hosts: Vec<(usize, f64)> = with_volume(config.failure_percentage.request_volume).collect();
    if !hosts.is_empty() && hosts.len() >= config.failure_percentage.minimum_hosts as usize {
        let threshold = f64::from(config.failure_percentage.threshold);
        found
            .extend(hosts.iter().filter(|(_, rate)| 100.0 - rate >= threshold).map(|(host, _)| (*host, by_percentage)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> OutlierDetection {
        OutlierDetection {
            consecutive_5xx: 3,
            consecutive_gateway_failure: 2,
            consecutive_local_origin_failure: 2,
            interval: Duration::from_secs(1),
            base_ejection_time: Duration::from_secs(5),
            max_ejection_time: Duration::from_secs(12),
            max_ejection_percent: 50,
            ..OutlierDetection::default()
        }
    }

    fn causes(record: &mut Record, config: &OutlierDetection, signs: &[Sign]) -> Vec<Cause> {
        signs.iter().flat_map(|sign| record.note(config, *sign, Duration::ZERO)).flatten().collect()
    }

    #[test]
    fn consecutive_only() {
        use Cause::{Consecutive5xx, ConsecutiveGatewayFailure, ConsecutiveLocalOriginFailure};
        let whole = config();
        let split = OutlierDetection { split_external_local_origin_errors: true, ..config() };
        let status = Sign::Status;
        let cases: [(&OutlierDetection, &[Sign], &[Cause]); 8] = [
            (&whole, &[status(500), status(500), status(200), status(500), status(500)], &[]),
            (&whole, &[status(500), status(500), status(500)], &[Consecutive5xx]),
            (
                &whole,
                &[status(502), status(500), status(503), status(504)],
                &[Consecutive5xx, ConsecutiveGatewayFailure],
            ),
            (&whole, &[Sign::LocalOrigin, Sign::ConnectOk, Sign::Timeout], &[ConsecutiveGatewayFailure]),
            (&whole, &[Sign::LocalOrigin, Sign::ConnectOkFinal, Sign::LocalOrigin], &[]),
            (&split, &[Sign::LocalOrigin, Sign::ConnectOk, Sign::Timeout], &[]),
            (&split, &[Sign::LocalOrigin, status(500), Sign::Timeout], &[ConsecutiveLocalOriginFailure]),
            (&split, &[status(503), Sign::LocalOrigin, status(503)], &[ConsecutiveGatewayFailure]),
        ];
        for (config, signs, expected) in cases {
            assert_eq!(causes(&mut Record::default(), config, signs), expected, "{signs:?}");
        }
    }

    #[test]
    fn ejections_grow_and_shrink() {
        let config = config();
        let mut record = Record::default();
        let mut now = Duration::ZERO;
        let ejected_for = |record: &mut Record, now: &mut Duration| {
            record.eject(&config, *now, 0.0);
            let start = *now;
            while record.is_ejected() {
                *now += Duration::from_secs(1);
                record.interval(&config, *now);
                record.rest(&config, *now);
            }
            (*now - start).as_secs()
        };
        let times: Vec<u64> = (0..5).map(|_| ejected_for(&mut record, &mut now)).collect();
        assert_eq!(times, [5, 10, 12, 12, 12]);
        for _ in 0..10 {
            now += Duration::from_secs(1);
            record.interval(&config, now);
            record.rest(&config, now);
        }
        assert_eq!(ejected_for(&mut record, &mut now), 5, "ten quiet intervals");
        let jitter = OutlierDetection { max_ejection_time_jitter: Duration::from_secs(4), ..config.clone() };
        let mut record = Record::default();
        record.eject(&jitter, now, 0.5);
        assert!(!record.interval(&jitter, now + Duration::from_secs(6)));
        assert!(record.interval(&jitter, now + Duration::from_secs(7)));
    }

    #[test]
    fn how_many_may_go() {
        let none = OutlierDetection { max_ejection_percent: 10, ..config() };
        let one = OutlierDetection { always_eject_one_host: true, ..none.clone() };
        let judge =
            |config: &OutlierDetection, ejected, total| judge(config, Cause::Consecutive5xx, ejected, total, 0.5);
        assert_eq!(judge(&none, 0, 9), Verdict::Overflow);
        assert_eq!(judge(&none, 0, 10), Verdict::Eject);
        assert_eq!(judge(&none, 1, 10), Verdict::Overflow);
        assert_eq!(judge(&one, 0, 3), Verdict::Eject);
        assert_eq!(judge(&one, 1, 3), Verdict::Overflow);
        let mut half = config();
        half.enforcing[Cause::Consecutive5xx as usize] = 50;
        assert_eq!(super::judge(&half, Cause::Consecutive5xx, 0, 2, 0.49), Verdict::Eject);
        assert_eq!(super::judge(&half, Cause::Consecutive5xx, 0, 2, 0.5), Verdict::Spare);
    }

    #[test]
    fn worse_than_the_others() {
        let config = OutlierDetection::default();
        let rates = |rates: &[f64], volume| rates.iter().map(|rate| Some((*rate, volume))).collect::<Vec<_>>();
        type Case = (&'static [f64], u32, &'static [(usize, Cause)]);
        let cases: [Case; 5] = [
            (&[50.0, 100.0, 100.0, 100.0, 100.0], 100, &[(0, Cause::SuccessRate)]),
            (&[50.0, 100.0, 100.0, 100.0, 100.0], 99, &[]),
            (&[50.0, 100.0, 100.0, 100.0], 100, &[]),
            (&[15.0, 15.0, 100.0, 100.0, 100.0], 60, &[(0, Cause::FailurePercentage), (1, Cause::FailurePercentage)]),
            (&[15.1, 15.1, 100.0, 100.0, 100.0], 60, &[]),
        ];
        for (values, volume, expected) in cases {
            assert_eq!(outliers(&config, Origin::Server, &rates(values, volume)), expected, "{values:?} {volume}");
        }
        let way = outliers(&config, Origin::Way, &rates(&[50.0, 100.0, 100.0, 100.0, 100.0], 100));
        assert_eq!(way, [(0, Cause::LocalOriginSuccessRate)]);
    }

    #[test]
    fn a_low_rate_over_a_time_and_the_way_back() {
        let second = Duration::from_secs;
        let windowed = WindowedSuccessRate { threshold: 80.0, window: second(10), minimum_requests: 5 };
        let config = OutlierDetection { windowed: Some(windowed), consecutive_5xx: 0, ..config() };
        let mut record = Record::default();
        let note = |record: &mut Record, status, at| record.note(&config, Sign::Status(status), second(at))[0];
        // One in five fails; then one more.
        assert!([500, 200, 200, 200, 200].into_iter().all(|status| note(&mut record, status, 1).is_none()));
        assert_eq!(note(&mut record, 500, 2), Some(Cause::WindowedSuccessRate));
        record.eject(&config, second(2), 0.0);
        assert!(record.is_out() && !record.interval(&config, second(6)) && record.interval(&config, second(7)));
        // It comes back for one request; without a word another one is tried.
        assert!(!record.is_out() && record.begin_probe() && record.is_out() && !record.begin_probe());
        assert!(record.end_probe() && !record.is_out() && record.begin_probe());
        assert_eq!(note(&mut record, 503, 8), Some(Cause::WindowedSuccessRate));
        record.eject(&config, second(8), 0.0);
        assert!(!record.interval(&config, second(17)), "twice as long");
        assert!(record.interval(&config, second(18)) && record.begin_probe());
        assert_eq!(note(&mut record, 200, 18), None);
        assert!(!record.is_out() && !record.begin_probe());
        // What is older than the window is forgotten.
        assert!([500; 3].into_iter().all(|status| note(&mut record, status, 19).is_none()));
        assert_eq!(note(&mut record, 500, 30), None);
    }

    #[test]
    fn rates_are_of_the_last_interval() {
        let (config, mut record) = (config(), Record::default());
        causes(&mut record, &config, &[Sign::Status(200), Sign::Status(500)]);
        assert_eq!(record.rate(Origin::Server), None);
        record.interval(&config, Duration::from_secs(1));
        assert_eq!(record.rate(Origin::Server), Some((50.0, 2)));
        record.interval(&config, Duration::from_secs(2));
        assert_eq!(record.rate(Origin::Server), None);
    }
}
