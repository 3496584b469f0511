//! Load reports of servers (`xds.data.orca.v3.OrcaLoadReport`) in response headers: `endpoint-load-metrics-bin`, or
//! `endpoint-load-metrics` beginning with `TEXT`, `JSON` or `BIN`.

use std::borrow::Cow;

/// One report. Zero: not said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report<'a> {
    pub cpu: f64,
    pub memory: f64,
    pub application: f64,
    /// Requests and errors per second.
    pub rate: f64,
    pub errors: f64,
    /// `named_metrics`.
    pub named: Vec<(Cow<'a, str>, f64)>,
    /// `utilization`.
    pub utilizations: Vec<(Cow<'a, str>, f64)>,
}

impl<'a> Report<'a> {
    /// The application's word, else the largest of `metrics`, else the processor's use.
    pub fn utilization<'m>(&self, metrics: impl Iterator<Item = &'m str>) -> f64 {
        if self.application > 0.0 {
            return self.application;
        }
        let largest = metrics.filter_map(|name| self.metric(name)).fold(0.0, f64::max);
        if largest > 0.0 { largest } else { self.cpu }
    }

    fn metric(&self, name: &str) -> Option<f64> {
        let in_map = |map: &[(Cow<'a, str>, f64)], key: &str| {
            map.iter().find(|(other, _)| *other == *key).map(|(_, value)| *value)
        };
        match name.split_once('.') {
            Some(("named_metrics", key)) => in_map(&self.named, key),
            Some(("utilization", key)) => in_map(&self.utilizations, key),
            _ => match name {
                "cpu_utilization" => Some(self.cpu),
                "mem_utilization" => Some(self.memory),
                "application_utilization" => Some(self.application),
                _ => None,
            },
        }
    }

    fn set(&mut self, name: &str, value: f64) -> Option<()> {
        // Names that mean nothing here are no error; values that cannot be are.
        if !value.is_finite() || value < 0.0 {
            return None;
        }
        match name {
            "cpu_utilization" => self.cpu = value,
            "mem_utilization" => self.memory = value,
            "application_utilization" => self.application = value,
            "rps_fractional" => self.rate = value,
            "eps" => self.errors = value,
            _ => {}
        }
        Some(())
    }

    fn put(&mut self, map: &str, key: Cow<'a, str>, value: f64) -> Option<()> {
        // A server does not get to fill the memory.
        const MOST: usize = 100;
        let map = match map {
            "named_metrics" => &mut self.named,
            "utilization" => &mut self.utilizations,
            _ => return Some(()),
        };
        if map.len() < MOST && value.is_finite() {
            map.push((key, value));
        }
        Some(())
    }

    /// `name=value` pairs by commas: the native form.
    pub fn text(text: &'a str) -> Option<Report<'a>> {
        let mut report = Report::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').or_else(|| part.split_once(':'))?;
            let (name, value) = (name.trim(), value.trim().parse().ok()?);
            match name.split_once('.') {
                Some((map, key)) => report.put(map, key.into(), value)?,
                None => report.set(name, value)?,
            }
        }
        Some(report)
    }

    /// The protobuf message.
    pub fn binary(mut bytes: &[u8]) -> Option<Report<'static>> {
        let mut report = Report::default();
        while !bytes.is_empty() {
            match field(&mut bytes)? {
                (number, Value::Double(value)) => {
                    let name = match number {
                        1 => "cpu_utilization",
                        2 => "mem_utilization",
                        6 => "rps_fractional",
                        7 => "eps",
                        9 => "application_utilization",
                        _ => "",
                    };
                    report.set(name, value)?;
                }
                (number @ (5 | 8), Value::Bytes(mut entry)) => {
                    let (mut key, mut value) = (String::new(), 0.0);
                    while !entry.is_empty() {
                        match field(&mut entry)? {
                            (1, Value::Bytes(text)) => key = String::from_utf8(text.to_vec()).ok()?,
                            (2, Value::Double(number)) => value = number,
                            _ => {}
                        }
                    }
                    report.put(if number == 5 { "utilization" } else { "named_metrics" }, key.into(), value)?;
                }
                _ => {}
            }
        }
        Some(report)
    }

    /// A JSON value's members, as `put` and `set` take them: `each` yields map (or nothing), name and value.
    pub fn members(each: impl Iterator<Item = (String, String, f64)>) -> Option<Report<'static>> {
        let mut report = Report::default();
        for (map, name, value) in each {
            match map.as_str() {
                "" => report.set(&name, value)?,
                map => report.put(map, name.into(), value)?,
            }
        }
        Some(report)
    }
}

enum Value<'a> {
    Double(f64),
    Bytes(&'a [u8]),
    Other,
}

/// The next field of a protobuf message.
fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = varint(bytes)?;
    let value = match tag & 7 {
        0 => {
            varint(bytes)?;
            Value::Other
        }
        1 => Value::Double(f64::from_le_bytes(take(bytes, 8)?.try_into().ok()?)),
        2 => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            Value::Bytes(take(bytes, length)?)
        }
        5 => {
            take(bytes, 4)?;
            Value::Other
        }
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let report = Report::text("cpu_utilization=0.5, rps_fractional=100,named_metrics.queue=0.7,eps=2").unwrap();
        assert_eq!((report.cpu, report.rate, report.errors), (0.5, 100.0, 2.0));
        assert_eq!(report.utilization(["named_metrics.queue"].into_iter()), 0.7);
        assert_eq!(report.utilization(["named_metrics.other"].into_iter()), 0.5);
        for wrong in ["cpu_utilization", "cpu_utilization=much", "cpu_utilization=-1", "eps=NaN"] {
            assert_eq!(Report::text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn messages() {
        let mut bytes = vec![1 << 3 | 1];
        bytes.extend(0.25f64.to_le_bytes());
        bytes.extend([3 << 3, 0x96, 1]);
        bytes.push(6 << 3 | 1);
        bytes.extend(40f64.to_le_bytes());
        bytes.extend([8 << 3 | 2, 12, 1 << 3 | 2, 1, b'q', 2 << 3 | 1]);
        bytes.extend(0.9f64.to_le_bytes());
        let report = Report::binary(&bytes).unwrap();
        assert_eq!((report.cpu, report.rate), (0.25, 40.0));
        assert_eq!(report.utilization(["named_metrics.q"].into_iter()), 0.9);
        for cut in 1..bytes.len() {
            let _ = Report::binary(&bytes[..cut]);
        }
        assert_eq!(Report::binary(&bytes[..5]), None);
    }
}
