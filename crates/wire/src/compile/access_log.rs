//! Access logs (`accesslog.v3.AccessLog` with the file and stream loggers).

use super::{Result, data, format, not_empty, unpack};
use crate::pb::envoy::config::accesslog::v3 as pb;
use crate::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat};
use crate::pb::envoy::extensions::access_loggers::stream::v3 as stream;
use crate::pb::google::protobuf::Any;
use crate::problem::{At, gather};
use crate::schema::type_name;
use model::access_log::{AccessLog, Line, Sink};
use model::format::DEFAULT_ACCESS_LOG;
use std::sync::Arc;

pub(super) fn logs(at: &At<'_>, field: &str, pb: &[pb::AccessLog]) -> Result<Vec<Arc<AccessLog>>> {
    gather(pb.iter().enumerate().map(|(index, log)| {
        let at = at.item(field, index);
        let pb::access_log::ConfigType::TypedConfig(any) = at.required("typed_config", &log.config_type)?;
        Ok(Arc::new(log_of(&at.field("typed_config"), any)?))
    }))
}

fn log_of(at: &At<'_>, any: &Any) -> Result<AccessLog> {
    match type_name(&any.type_url) {
        "envoy.extensions.access_loggers.file.v3.FileAccessLog" => file(at, &unpack(at, any)?),
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" => {
            let log: stream::StdoutAccessLog = unpack(at, any)?;
            let line =
                log.access_log_format.as_ref().map(|stream::stdout_access_log::AccessLogFormat::LogFormat(f)| {
                    format::line(&at.field("log_format"), f)
                });
            Ok(AccessLog { sink: Sink::Stdout, line: line.unwrap_or_else(|| default_line(at))? })
        }
        "envoy.extensions.access_loggers.stream.v3.StderrAccessLog" => {
            let log: stream::StderrAccessLog = unpack(at, any)?;
            let line =
                log.access_log_format.as_ref().map(|stream::stderr_access_log::AccessLogFormat::LogFormat(f)| {
                    format::line(&at.field("log_format"), f)
                });
            Ok(AccessLog { sink: Sink::Stderr, line: line.unwrap_or_else(|| default_line(at))? })
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
        Some(AccessLogFormat::JsonFormat(json)) => {
            Line::Json(format::object(&at.field("json_format"), data::object(json))?)
        }
        Some(AccessLogFormat::TypedJsonFormat(json)) => {
            Line::Json(format::object(&at.field("typed_json_format"), data::object(json))?)
        }
        Some(AccessLogFormat::LogFormat(log_format)) => format::line(&at.field("log_format"), log_format)?,
    };
    Ok(AccessLog { sink, line })
}

fn default_line(at: &At<'_>) -> Result<Line> {
    format::format(at, DEFAULT_ACCESS_LOG).map(Line::Text)
}
