//! Other load generators, to check ours against: the same target, the same concurrency, also on one thread.

use crate::cases::{Metric, Traffic};
use crate::load::Protocol;
use anyhow::Context;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generator {
    Wrk,
    H2load,
}

pub const OTHERS: [Generator; 2] = [Generator::Wrk, Generator::H2load];

/// What a generator says of its run.
pub struct Seen {
    pub requests: f64,
    pub figures: BTreeMap<Metric, f64>,
}

impl Generator {
    pub fn name(self) -> &'static str {
        match self {
            Generator::Wrk => "wrk",
            Generator::H2load => "h2load",
        }
    }

    /// Its version, and why it cannot make this traffic, if so.
    pub fn can(self, traffic: &Traffic) -> (String, Option<String>) {
        let asked = Command::new(self.name()).arg("--version").stdin(Stdio::null()).output();
        let Ok(output) = asked else { return (String::new(), Some("is not installed".into())) };
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let version = crate::peers::version_in(&said).unwrap_or_default();
        let speaks = match self {
            Generator::Wrk => traffic.protocol == Protocol::Http1,
            Generator::H2load => matches!(traffic.protocol, Protocol::Http1 | Protocol::Http2),
        };
        (version, (!speaks).then(|| format!("does not speak {:?}", traffic.protocol)))
    }

    /// Runs it; it has the CPU of whoever starts it.
    pub fn run(self, traffic: &Traffic, target: SocketAddr, duration: Duration) -> anyhow::Result<Seen> {
        let seconds = (duration.as_secs_f64().ceil() as u64).max(1);
        let mut command = Command::new(self.name());
        command.args(["-t1", &format!("-c{}", traffic.connections)]);
        match self {
            Generator::Wrk => command.args([&format!("-d{seconds}s"), "--latency"]),
            Generator::H2load => command.args([&format!("-D{seconds}"), &format!("-m{}", traffic.streams)]),
        };
        if self == Generator::H2load && traffic.protocol == Protocol::Http1 {
            command.arg("--h1");
        }
        let output = command.arg(format!("http://{target}{}", traffic.path())).stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        anyhow::ensure!(output.status.success(), "{} failed: {text}", self.name());
        self.read(&text).with_context(|| format!("{} says: {text}", self.name()))
    }

    fn read(self, text: &str) -> Option<Seen> {
        let number = |word: &str| word.parse::<f64>().ok();
        let before = |name: &str| {
            let mut words = text.split_whitespace().zip(text.split_whitespace().skip(1));
            words.find(|(_, next)| next.trim_end_matches(',') == name).and_then(|(word, _)| number(word))
        };
        let after = |name: &str| {
            let mut words = text.split_whitespace().skip_while(|word| *word != name).skip(1);
            words.next()
        };
        let (requests, rate) = match self {
            Generator::Wrk => {
                // Its words for a broken run.
                if text.contains("Non-2xx") || text.contains("Socket errors") {
                    return None;
                }
                (before("requests")?, number(after("Requests/sec:")?)?)
            }
            Generator::H2load => {
                if before("failed")? > 0.0 || before("errored")? > 0.0 {
                    return None;
                }
                (before("succeeded")?, before("req/s")?)
            }
        };
        let mut figures = BTreeMap::from([(Metric::RequestsPerSecond, rate)]);
        if self == Generator::Wrk {
            figures.insert(Metric::P50, microseconds(after("50%")?)?);
            figures.insert(Metric::P99, microseconds(after("99%")?)?);
        }
        Some(Seen { requests, figures })
    }
}

/// `1.23ms` and the like.
fn microseconds(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 60e6)];
    let (unit, factor) = units.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_they_print_is_read() {
        let text = "  Latency Distribution\n     50%    5.77ms\n     99%   970.00us\n  597 requests in 1.01s, 1.62MB read\n\
                    Requests/sec:    593.97\nTransfer/sec:      1.61MB\n";
        let seen = Generator::Wrk.read(text).expect("well-formed");
        assert_eq!(seen.requests, 597.0);
        assert_eq!(seen.figures[&Metric::RequestsPerSecond], 593.97);
        assert_eq!((seen.figures[&Metric::P50], seen.figures[&Metric::P99]), (5770.0, 970.0));
        assert!(Generator::Wrk.read(&format!("{text}  Non-2xx or 3xx responses: 3\n")).is_none());
        let text = "finished in 1.00s, 4115.00 req/s, 4.6MB/s\nrequests: 4115 total, 4179 started, 4115 done, \
                    4115 succeeded, 0 failed, 0 errored, 0 timeout\n";
        let seen = Generator::H2load.read(text).expect("well-formed");
        assert_eq!((seen.requests, seen.figures[&Metric::RequestsPerSecond]), (4115.0, 4115.0));
        assert!(Generator::H2load.read(&text.replace("0 failed", "7 failed")).is_none());
    }
}
