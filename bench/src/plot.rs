//! Bar charts as SVG, readable on light and dark pages.

use std::fmt::Write;

/// Bars that belong together.
pub struct Group {
    pub label: String,
    pub bars: Vec<Bar>,
}

pub struct Bar {
    /// Bars of one series have one colour.
    pub series: String,
    pub value: f64,
    /// Ends of the line that shows the spread.
    pub low: f64,
    pub high: f64,
}

const COLOURS: [&str; 6] = ["#0969da", "#8c959f", "#2da44e", "#bf8700", "#cf222e", "#8250df"];
const LABELS: f64 = 130.0;
const WIDTH: f64 = 560.0;
const BAR: f64 = 11.0;
const GAP: f64 = 10.0;
const TOP: f64 = 56.0;

/// Horizontal bars, group below group.
pub fn bars(title: &str, groups: &[Group]) -> String {
    let series = series(groups);
    let all = || groups.iter().flat_map(|group| &group.bars);
    let longest = all().map(|bar| bar.high).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let height: f64 = TOP + groups.iter().map(|group| group.bars.len() as f64 * BAR + GAP).sum::<f64>();
    let total = LABELS + WIDTH + 70.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{total}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#656d76\">\n<text x=\"0\" y=\"16\" font-size=\"14\">{}</text>\n",
        escape(title)
    );
    for (number, name) in series.iter().enumerate() {
        let x = LABELS + number as f64 * 90.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"28\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{}\" y=\"37\">{}</text>",
            colour(number),
            x + 14.0,
            escape(name)
        );
    }
    let mut y = TOP;
    for group in groups {
        let middle = y + group.bars.len() as f64 * BAR / 2.0 + 4.0;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>",
            LABELS - 8.0,
            escape(&group.label)
        );
        for bar in &group.bars {
            let number = series.iter().position(|name| *name == bar.series).unwrap_or(0);
            svg += &draw(bar, y, WIDTH / longest, colour(number));
            y += BAR;
        }
        y += GAP;
    }
    svg + "</svg>\n"
}

/// A bar at a height, its spread as a line, its value at the end.
fn draw(bar: &Bar, y: f64, scale: f64, colour: &str) -> String {
    let [value, low, high] = [bar.value, bar.low, bar.high].map(|value| value * scale);
    let middle = y + BAR / 2.0 - 0.5;
    format!(
        "<rect x=\"{LABELS}\" y=\"{y:.1}\" width=\"{value:.1}\" height=\"{}\" fill=\"{colour}\"/>\
         <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"#656d76\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"9\">{}</text>\n",
        BAR - 1.0,
        LABELS + low,
        LABELS + high,
        LABELS + high + 4.0,
        y + BAR - 2.0,
        short(bar.value)
    )
}

fn short(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

/// Names in the order in which they first appear.
fn series(groups: &[Group]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for bar in groups.iter().flat_map(|group| &group.bars) {
        if !names.contains(&bar.series.as_str()) {
            names.push(&bar.series);
        }
    }
    names
}

fn colour(number: usize) -> &'static str {
    COLOURS[number % COLOURS.len()]
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
