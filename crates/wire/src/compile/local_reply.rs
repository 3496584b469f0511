//! What the proxy's own answers look like (`http_connection_manager.v3.LocalReplyConfig`).

use super::{Result, access_log, data, header, line, uint};
use crate::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use crate::problem::{At, gather};
use model::local_reply::{LocalReply, ReplyMapper};

/// Bytes; Envoy's limit for bodies that are part of the configuration.
const LARGEST_BODY: usize = 4096;

pub(super) fn local_reply(at: &At<'_>, pb: Option<&pb::LocalReplyConfig>) -> Result<LocalReply> {
    let Some(pb) = pb else { return Ok(LocalReply::default()) };
    let mappers = pb.mappers.iter().enumerate().map(|(index, one)| mapper(&at.item("mappers", index), one));
    let body = pb.body_format.as_ref().map(|body| line::body(&at.field("body_format"), body));
    Ok(LocalReply { mappers: gather(mappers)?, body: body.transpose()? })
}

fn mapper(at: &At<'_>, pb: &pb::ResponseMapper) -> Result<ReplyMapper> {
    let filter = at.required("filter", &pb.filter)?;
    let status = match uint(&pb.status_code) {
        None => None,
        Some(status @ 200..=599) => Some(status as u16),
        Some(status) => return at.field("status_code").wrong(format!("{status} is not a status from 200 to 599")),
    };
    let body = pb.body.as_ref().map(|body| data::bytes(&at.field("body"), body)).transpose()?;
    if body.as_ref().is_some_and(|body| body.len() > LARGEST_BODY) {
        return at.field("body").wrong(format!("must not have more than {LARGEST_BODY} bytes"));
    }
    let format = pb.body_format_override.as_ref();
    let format = format.map(|body| line::body(&at.field("body_format_override"), body));
    Ok(ReplyMapper {
        filter: access_log::filter(&at.field("filter"), filter)?,
        status,
        body: body.map(Into::into),
        format: format.transpose()?,
        headers: header::add(at, "headers_to_add", &pb.headers_to_add)?,
    })
}
