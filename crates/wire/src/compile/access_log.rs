//! Access logs (`accesslog.v3.AccessLog` with the file and stream loggers).

use super::{Result, format, known, line, matcher, not_empty, unpack};
use crate::pb::envoy::config::accesslog::v3 as pb;
use crate::pb::envoy::config::core::v3::RuntimeUInt32;
use crate::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat};
use crate::pb::envoy::extensions::access_loggers::stream::v3 as stream;
use crate::pb::google::protobuf::Any;
use crate::problem::{At, gather};
use crate::schema::type_name;
use model::access_log::{AccessLog, Comparison, LogFilter, Order, Sink};
use model::format::DEFAULT_ACCESS_LOG;
use model::line::Line;
use pb::access_log_filter::FilterSpecifier;
use pb::comparison_filter::Op;
use std::sync::Arc;

pub(super) fn logs(at: &At<'_>, field: &str, pb: &[pb::AccessLog]) -> Result<Vec<Arc<AccessLog>>> {
    gather(pb.iter().enumerate().map(|(index, log)| {
        let at = at.item(field, index);
        let pb::access_log::ConfigType::TypedConfig(any) = at.required("typed_config", &log.config_type)?;
        let filter = log.filter.as_ref().map(|one| filter(&at.field("filter"), one));
        Ok(Arc::new(AccessLog { filter: filter.transpose()?, ..log_of(&at.field("typed_config"), any)? }))
    }))
}

fn log_of(at: &At<'_>, any: &Any) -> Result<AccessLog> {
    match type_name(&any.type_url) {
        "envoy.extensions.access_loggers.file.v3.FileAccessLog" => file(at, &unpack(at, any)?),
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" => {
            let log: stream::StdoutAccessLog = unpack(at, any)?;
            let line = log
                .access_log_format
                .as_ref()
                .map(|stream::stdout_access_log::AccessLogFormat::LogFormat(f)| line::line(&at.field("log_format"), f));
            Ok(AccessLog { sink: Sink::Stdout, line: line.unwrap_or_else(|| default_line(at))?, filter: None })
        }
        "envoy.extensions.access_loggers.stream.v3.StderrAccessLog" => {
            let log: stream::StderrAccessLog = unpack(at, any)?;
            let line = log
                .access_log_format
                .as_ref()
                .map(|stream::stderr_access_log::AccessLogFormat::LogFormat(f)| line::line(&at.field("log_format"), f));
            Ok(AccessLog { sink: Sink::Stderr, line: line.unwrap_or_else(|| default_line(at))?, filter: None })
        }
        other => at.wrong(format!("access logger `{other}` is not implemented; file, stdout and stderr are")),
    }
}

fn file(at: &At<'_>, pb: &FileAccessLog) -> Result<AccessLog> {
    let sink = match not_empty(at, "path", &pb.path)? {
        // The same streams, also where these files cannot be opened.
        "/dev/stdout" => Sink::Stdout,
        "/dev/stderr" => Sink::Stderr,
        path => Sink::File(path.into()),
    };
    let line = match &pb.access_log_format {
        None => default_line(at)?,
        Some(AccessLogFormat::Format(text)) if text.is_empty() => default_line(at)?,
        Some(AccessLogFormat::Format(text)) => Line::Text(format::format(&at.field("format"), text)?),
        Some(AccessLogFormat::JsonFormat(json)) => line::json(&at.field("json_format"), json)?,
        Some(AccessLogFormat::TypedJsonFormat(json)) => line::json(&at.field("typed_json_format"), json)?,
        Some(AccessLogFormat::LogFormat(log_format)) => line::line(&at.field("log_format"), log_format)?,
    };
    Ok(AccessLog { sink, line, filter: None })
}

fn default_line(at: &At<'_>) -> Result<Line> {
    format::format(at, DEFAULT_ACCESS_LOG).map(Line::Text)
}

/// Response flags that can come up, as Envoy names them.
const FLAGS: [&str; 32] = [
    "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX", "SI", "IH",
    "DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DO", "DR", "UDO", "RLE", "DMSD",
];

/// Which exchanges are meant.
pub(super) fn filter(at: &At<'_>, pb: &pb::AccessLogFilter) -> Result<LogFilter> {
    let list = |at: &At<'_>, filters: &[pb::AccessLogFilter]| {
        if filters.len() < 2 {
            return at.field("filters").wrong("must have at least two filters");
        }
        gather(filters.iter().enumerate().map(|(index, one)| filter(&at.item("filters", index), one)))
    };
    Ok(match at.required("filter_specifier", &pb.filter_specifier)? {
        FilterSpecifier::StatusCodeFilter(status) => {
            LogFilter::Status(comparison(&at.field("status_code_filter"), &status.comparison)?)
        }
        FilterSpecifier::DurationFilter(duration) => {
            LogFilter::Duration(comparison(&at.field("duration_filter"), &duration.comparison)?)
        }
        FilterSpecifier::NotHealthCheckFilter(_) => LogFilter::NotHealthCheck,
        FilterSpecifier::RuntimeFilter(share) => {
            LogFilter::Share(matcher::percent(&at.field("runtime_filter"), "percent_sampled", &share.percent_sampled)?)
        }
        FilterSpecifier::AndFilter(all) => LogFilter::And(list(&at.field("and_filter"), &all.filters)?),
        FilterSpecifier::OrFilter(any) => LogFilter::Or(list(&at.field("or_filter"), &any.filters)?),
        FilterSpecifier::HeaderFilter(header) => {
            let at = at.field("header_filter");
            let wanted = at.required("header", &header.header)?;
            LogFilter::Header(matcher::header(&at.field("header"), wanted)?)
        }
        FilterSpecifier::ResponseFlagFilter(flags) => {
            let at = at.field("response_flag_filter");
            let known = |(index, flag): (usize, &String)| match FLAGS.contains(&flag.as_str()) {
                true => Ok(flag.as_str().into()),
                false => at.item("flags", index).wrong(format!("`{flag}` is no response flag")),
            };
            LogFilter::Flags(gather(flags.flags.iter().enumerate().map(known))?)
        }
        FilterSpecifier::GrpcStatusFilter(grpc) => LogFilter::GrpcStatus {
            statuses: grpc.statuses.iter().filter_map(|status| u8::try_from(*status).ok()).collect(),
            exclude: grpc.exclude,
        },
        _ => return at.wrong("is not implemented"),
    })
}

fn comparison(at: &At<'_>, pb: &Option<pb::ComparisonFilter>) -> Result<Comparison> {
    let pb = at.required("comparison", pb)?;
    let at = at.field("comparison");
    let value: &RuntimeUInt32 = at.required("value", &pb.value)?;
    let with = match known(&at, "op", pb.op)? {
        Op::Eq => Order::Equal,
        Op::Ge => Order::AtLeast,
        Op::Le => Order::AtMost,
        Op::Ne => Order::NotEqual,
    };
    Ok(Comparison { with, value: u64::from(value.default_value) })
}
