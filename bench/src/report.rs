//! Results as JSON, which later runs add to, and as Markdown and plots, which are made from it.

use crate::cases::Metric;
use crate::peers::NAMES;
use crate::plot::{self, Bar, Group};
use crate::run::{Column, WITH_LOG};
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
    /// Figures that count; the first is the one that ratios compare.
    pub metrics: Vec<Metric>,
    pub columns: Vec<Column>,
}

/// The date as results carry it.
pub fn now() -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]");
    time::OffsetDateTime::now_utc().format(format).unwrap_or_default()
}

/// More than this share of the proxy's CPU used by others is told.
const FOREIGN: f64 = 0.05;
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
            // Not those that this process is held to.
            cpus: read("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count(),
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
        self.cases.sort_by_key(|result| order.iter().position(|name| *name == result.name.trim_end_matches(WITH_LOG)));
    }

    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let write =
            |name: &str, text: String| std::fs::write(folder.join(name), text).with_context(|| name.to_string());
        write("results.json", serde_json::to_string_pretty(self)? + "\n")?;
        write("results.md", self.markdown())?;
        write("cost.svg", plot::bars("Cost: Ripstop = 1, less is better", &self.cost_groups()))?;
        write("latency.svg", plot::bars("p99 in an open loop, microseconds (less is better)", &self.latency_groups()))
    }

    fn markdown(&self) -> String {
        let Machine { cpu, cpus, kernel, memory_mb } = &self.machine;
        let text = format!(
            "# Results\n\nWritten by `cargo xtask bench`; see [the method](../README.md).\n\n\
             {cpu}, {cpus} CPUs, {memory_mb} MB, Linux {kernel}.\n\n\
             ![Cost](cost.svg)\n\n![p99 at a fixed rate](latency.svg)\n"
        );
        text + &self.tables()
    }

    /// A summary, and a table for each case.
    pub fn tables(&self) -> String {
        self.cases.iter().fold(self.summary() + &self.log_costs(), |text, case| text + &case.markdown())
    }

    /// Ripstop's cost over each peer's, case by case.
    fn summary(&self) -> String {
        let mut peers: Vec<&str> = Vec::new();
        for column in self.cases.iter().flat_map(|case| &case.columns) {
            if NAMES[1..].contains(&column.peer.as_str()) && !peers.contains(&column.peer.as_str()) {
                peers.push(&column.peer);
            }
        }
        let mut text = format!(
            "\n## Ripstop's cost over its peers' (less than 1: Ripstop is cheaper)\n\n| case | Ripstop | | {} |\n|---|---|---|{}\n",
            peers.join(" | "),
            "---|".repeat(peers.len())
        );
        for case in &self.cases {
            let Some(own) = case.column("ripstop").map(|own| median(&own.each(case.main()))) else { continue };
            let _ = write!(text, "| {} | {own:.1} | {} |", case.name, case.main().title());
            for peer in &peers {
                let ratio = case.ratio(peer).map_or("–".into(), |ratio| format!("{:.2}", ratio.median));
                let _ = write!(text, " {ratio} |");
            }
            text.push('\n');
        }
        text
    }

    /// How much more a peer costs with its access log.
    fn log_costs(&self) -> String {
        let mut text = String::new();
        for case in &self.cases {
            for column in case.measured() {
                let with = case.column(&format!("{}{WITH_LOG}", column.peer));
                let Some(with) = with.map(|with| with.each(case.main())) else { continue };
                let more = median(&with) / median(&column.each(case.main())) - 1.0;
                let _ = writeln!(text, "| {} | {} | {:+.0} % |", case.name, column.peer, more * 100.0);
            }
        }
        match text.is_empty() {
            true => text,
            false => {
                format!("\n## What the access log adds to a peer's cost\n\n| case | proxy | |\n|---|---|---|\n{text}")
            }
        }
    }

    fn cost_groups(&self) -> Vec<Group> {
        let group = |case: &Result| {
            let own = median(&case.column("ripstop")?.each(case.main()));
            let bar = |column: &Column| {
                let values: Vec<f64> = column.each(case.main()).iter().map(|value| value / own).collect();
                Bar { series: column.peer.clone(), value: median(&values), low: least(&values), high: most(&values) }
            };
            Some(Group { label: case.name.clone(), bars: case.measured().map(bar).collect() })
        };
        self.cases.iter().filter_map(group).collect()
    }

    fn latency_groups(&self) -> Vec<Group> {
        let bar = |column: &Column| {
            let values = column.each(Metric::P99);
            Bar { series: column.peer.clone(), value: median(&values), low: least(&values), high: most(&values) }
        };
        let compares = |case: &&Result| case.metrics.contains(&Metric::P99) && case.column("ripstop").is_some();
        let open = self.cases.iter().filter(compares);
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

    /// Metrics that the machine could measure.
    fn shown(&self) -> impl Iterator<Item = &Metric> {
        self.metrics.iter().filter(|metric| self.measured().any(|column| !column.each(**metric).is_empty()))
    }

    fn main(&self) -> Metric {
        self.metrics[0]
    }

    /// Ripstop's cost over a peer's.
    fn ratio(&self, peer: &str) -> Option<Ratio> {
        let [own, other] = ["ripstop", peer].map(|peer| self.column(peer).map(|column| column.each(self.main())));
        let (own, other) = (own?, other?);
        let pairs: Vec<f64> = own.iter().zip(&other).map(|(own, other)| own / other).collect();
        Some(Ratio { median: median(&own) / median(&other), low: least(&pairs), high: most(&pairs) })
    }

    fn markdown(&self) -> String {
        let Result { name, title, date, profile, seconds, .. } = self;
        let rounds = self.measured().map(|column| column.rounds.len()).max().unwrap_or(0);
        let mut text = format!(
            "\n## {name}\n\n{title}. {date} UTC, Ripstop's `{profile}` profile, {rounds} rounds of {seconds} s.{}\n\n",
            self.noise()
        );
        let titles: Vec<&str> = self.shown().map(|metric| metric.title()).collect();
        let who = if self.column("ripstop").is_some() { "proxy" } else { "generator" };
        let _ = writeln!(text, "| {who} | Ripstop over it | {} |", titles.join(" | "));
        let _ = writeln!(text, "|---|---|{}", "---|".repeat(titles.len()));
        for column in &self.columns {
            text += &self.row(column);
        }
        text
    }

    fn row(&self, column: &Column) -> String {
        let name = format!("{} {}", column.peer, column.version);
        if let Some(reason) = &column.cannot {
            return format!("| {name} | {reason} |{}\n", " |".repeat(self.shown().count()));
        }
        let ratio = self.ratio(&column.peer).filter(|_| column.peer != "ripstop");
        let ratio = ratio.map_or("".into(), |it| format!("**{:.2}** ({:.2}–{:.2})", it.median, it.low, it.high));
        let cells = self.shown().map(|metric| match metric {
            missing if column.each(*missing).is_empty() => "–".into(),
            main if *main == self.main() => spread(&column.each(*main)),
            other => short(median(&column.each(*other))),
        });
        format!("| {name} | {ratio} | {} |\n", cells.collect::<Vec<_>>().join(" | "))
    }

    /// Says so when the figures are doubtful.
    fn noise(&self) -> String {
        let foreign = |column: &Column| median(&column.rounds.iter().map(|round| round.foreign).collect::<Vec<_>>());
        let foreign = self.measured().map(foreign).fold(0.0, f64::max);
        let peers = self.measured().filter_map(|column| self.ratio(&column.peer));
        let apart = peers.map(|ratio| ratio.high / ratio.low).fold(1.0, f64::max);
        let mut text = String::new();
        if foreign > FOREIGN {
            let _ = write!(text, " Others used up to {:.0} % of the proxy's CPU.", foreign * 100.0);
        }
        if apart > NOISY {
            let _ = write!(text, " **Noisy**: ratios of single rounds differ by up to a factor of {apart:.1}.");
        }
        text
    }
}

impl Column {
    fn each(&self, metric: Metric) -> Vec<f64> {
        self.rounds.iter().filter_map(|round| round.figures.get(&metric).copied()).collect()
    }
}

fn short(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
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
