//! What the proxy's own answers look like (`http_connection_manager.v3.LocalReplyConfig`).

use crate::access_log::LogFilter;
use crate::header::AddHeader;
use crate::line::Line;
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct LocalReply {
    /// The first whose filter lets the answer through changes it.
    pub mappers: Vec<ReplyMapper>,
    /// Where no mapper has a format of its own.
    pub body: Option<BodyFormat>,
}

/// `ResponseMapper`.
#[derive(Debug)]
pub struct ReplyMapper {
    pub filter: LogFilter,
    pub status: Option<u16>,
    pub body: Option<Arc<[u8]>>,
    pub format: Option<BodyFormat>,
    pub headers: Vec<AddHeader>,
}

/// `core.v3.SubstitutionFormatString` where it makes a body.
#[derive(Debug)]
pub struct BodyFormat {
    pub line: Line,
    pub content_type: Box<str>,
}
