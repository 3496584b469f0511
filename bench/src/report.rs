//! Results as JSON, which later runs add to, and as Markdown and plots, which are made from it.

use crate::plot::{self, Bar, Group};
use crate::run::{Column, Round};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::path::Path;

/// Everything measured on one machine.
#[derive(Default, Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    pub cases: Vec<Result>,
}

#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: usize,
    pub kernel: String,
    pub memory_mb: u64,
}

/// One case's result.
#[derive(Serialize, Deserialize)]
pub struct Result {
    pub name: String,
    pub title: String,
    /// UTC, as 2026-11-23 18:30.
    pub date: String,
    /// Cargo profile that Ripstop was built with.
    pub profile: String,
    /// Measured seconds of each peer in each round.
    pub seconds: f64,
    /// Whether requests came at a fixed rate: only then do latencies mean something.
    pub open_loop: bool,
    pub columns: Vec<Column>,
}

/// The date as results carry it.
pub fn now() -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]");
    time::OffsetDateTime::now_utc().format(format).unwrap_or_default()
}

/// Ratios further apart than this in a case are called noisy.
const NOISY: f64 = 1.3;

impl Machine {
    pub fn this() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_string()).unwrap_or_default()
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        Machine {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_string(),
            memory_mb: memory.split(' ').next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024,
        }
    }
}

impl Results {
    /// Earlier results of this machine, or none.
    pub fn read(folder: &Path) -> anyhow::Result<Results> {
        let machine = Machine::this();
        let path = folder.join("results.json");
        if !path.exists() {
            return Ok(Results { machine, cases: Vec::new() });
        }
        let earlier: Results = serde_json::from_str(&std::fs::read_to_string(&path)?)
            .with_context(|| format!("{} cannot be read; remove it to begin anew", path.display()))?;
        anyhow::ensure!(earlier.machine == machine, "{} is from another machine; give another --out", path.display());
        Ok(earlier)
    }

    /// Replaces an earlier result of the same case; `order` is that of all cases.
    pub fn add(&mut self, result: Result, order: &[&str]) {
        self.cases.retain(|earlier| earlier.name != result.name);
        self.cases.push(result);
        self.cases.sort_by_key(|result| order.iter().position(|name| *name == result.name));
    }

    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let write =
            |name: &str, text: String| std::fs::write(folder.join(name), text).with_context(|| name.to_string());
        write("results.json", serde_json::to_string_pretty(self)? + "\n")?;
        write("results.md", self.markdown())?;
        write("cpu.svg", plot::bars("CPU per request, Ripstop = 1 (less is better)", &self.cpu_groups()))?;
        write("latency.svg", plot::bars("p99 at a fixed rate, microseconds (less is better)", &self.latency_groups()))
    }

    fn markdown(&self) -> String {
        let Machine { cpu, cpus, kernel, memory_mb } = &self.machine;
        let text = format!(
            "# Results\n\nWritten by `cargo xtask bench`; see [the method](../README.md).\n\n\
             {cpu}, {cpus} CPUs, {memory_mb} MB, Linux {kernel}.\n\n\
             ![CPU per request](cpu.svg)\n\n![p99 at a fixed rate](latency.svg)\n"
        );
        text + &self.tables()
    }

    /// A summary, and a table for each case.
    pub fn tables(&self) -> String {
        self.cases.iter().fold(self.summary(), |text, case| text + &case.markdown())
    }

    /// Ripstop's CPU per request over each peer's, case by case.
    fn summary(&self) -> String {
        let mut peers: Vec<&str> = Vec::new();
        for column in self.cases.iter().flat_map(|case| &case.columns) {
            if column.peer != "ripstop" && !peers.contains(&column.peer.as_str()) {
                peers.push(&column.peer);
            }
        }
        let mut text = format!(
            "\n## CPU per request: Ripstop over its peers\n\n| case | Ripstop, µs | {} |\n|---|---|{}\n",
            peers.join(" | "),
            "---|".repeat(peers.len())
        );
        for case in &self.cases {
            let own = case.column("ripstop").map(|own| median(&own.cpu())).unwrap_or_default();
            let _ = write!(text, "| {} | {own:.1} |", case.name);
            for peer in &peers {
                let ratio = case.ratio(peer).map_or("–".into(), |ratio| format!("{:.2}", ratio.median));
                let _ = write!(text, " {ratio} |");
            }
            text.push('\n');
        }
        text
    }

    fn cpu_groups(&self) -> Vec<Group> {
        let group = |case: &Result| {
            let own = median(&case.column("ripstop")?.cpu());
            let bar = |column: &Column| {
                let values: Vec<f64> = column.cpu().iter().map(|value| value / own).collect();
                Bar { series: column.peer.clone(), value: median(&values), low: least(&values), high: most(&values) }
            };
            Some(Group { label: case.name.clone(), bars: case.measured().map(bar).collect() })
        };
        self.cases.iter().filter_map(group).collect()
    }

    fn latency_groups(&self) -> Vec<Group> {
        let bar = |column: &Column| {
            let values = column.each(|round| round.p99);
            Bar { series: column.peer.clone(), value: median(&values), low: least(&values), high: most(&values) }
        };
        let open = self.cases.iter().filter(|case| case.open_loop);
        open.map(|case| Group { label: case.name.clone(), bars: case.measured().map(bar).collect() }).collect()
    }
}

/// One figure over another: ratio of the medians, and the smallest and largest ratio of one round.
struct Ratio {
    median: f64,
    low: f64,
    high: f64,
}

impl Result {
    fn column(&self, peer: &str) -> Option<&Column> {
        self.measured().find(|column| column.peer == peer)
    }

    fn measured(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| !column.rounds.is_empty())
    }

    /// Ripstop's CPU per request over a peer's.
    fn ratio(&self, peer: &str) -> Option<Ratio> {
        let (own, other) = (self.column("ripstop")?.cpu(), self.column(peer)?.cpu());
        let pairs: Vec<f64> = own.iter().zip(&other).map(|(own, other)| own / other).collect();
        Some(Ratio { median: median(&own) / median(&other), low: least(&pairs), high: most(&pairs) })
    }

    fn markdown(&self) -> String {
        let mut text =
            format!("\n## {}\n\n{}. {} UTC, Ripstop's `{}` profile", self.name, self.title, self.date, self.profile);
        let rounds = self.measured().map(|column| column.rounds.len()).max().unwrap_or(0);
        let _ = write!(text, ", {rounds} rounds of {} s.", self.seconds);
        text += &self.noise();
        let latencies = if self.open_loop { " p50, µs | p99, µs | p99.9, µs |" } else { " requests/s |" };
        let _ = write!(
            text,
            "\n\n| proxy | CPU µs/request | Ripstop over it |{latencies} memory, MB |\n|---|---|---|{}---|\n",
            "---|".repeat(latencies.matches('|').count())
        );
        for column in &self.columns {
            text += &self.row(column);
        }
        text
    }

    fn row(&self, column: &Column) -> String {
        let name = format!("{} {}", column.peer, column.version);
        if let Some(reason) = &column.cannot {
            return format!("| {name} | {reason} |\n");
        }
        let ratio = self.ratio(&column.peer).filter(|_| column.peer != "ripstop");
        let ratio = ratio.map_or("".into(), |it| format!("**{:.2}** ({:.2}–{:.2})", it.median, it.low, it.high));
        let middle = |figure: fn(&Round) -> f64| median(&column.each(figure));
        let speed = if self.open_loop {
            format!("{:.0} | {:.0} | {:.0}", middle(|it| it.p50), middle(|it| it.p99), middle(|it| it.p999))
        } else {
            format!("{:.0}", middle(|it| it.requests_per_second))
        };
        let memory = middle(|it| it.resident as f64) / 1e6;
        format!("| {name} | {} | {ratio} | {speed} | {memory:.1} |\n", spread(&column.cpu()))
    }

    /// Says so when the figures are doubtful.
    fn noise(&self) -> String {
        let foreign = self.measured().map(|column| median(&column.each(|round| round.foreign))).fold(0.0, f64::max);
        let peers = self.measured().filter_map(|column| self.ratio(&column.peer));
        let apart = peers.map(|ratio| ratio.high / ratio.low).fold(1.0, f64::max);
        let mut text = String::new();
        if foreign > 0.05 {
            let _ = write!(text, " Others used up to {:.0} % of the proxy's CPU.", foreign * 100.0);
        }
        if apart > NOISY {
            let _ = write!(text, " **Noisy**: ratios of single rounds differ by up to a factor of {apart:.1}.");
        }
        text
    }
}

impl Column {
    fn each(&self, figure: impl Fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(figure).collect()
    }

    fn cpu(&self) -> Vec<f64> {
        self.each(|round| round.cpu_us)
    }
}

/// Median, smallest and largest.
fn spread(values: &[f64]) -> String {
    format!("{:.1} ({:.1}–{:.1})", median(values), least(values), most(values))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
    }
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}
