//! `/logging`: shows and sets the levels of the process log.

use runtime::http::{Request, Response, StatusCode};
use runtime::log;

/// `?level=LEVEL` sets all parts, `?PART=LEVEL` one; without either the levels are shown.
pub(super) fn answer(request: &Request) -> Response {
    let wrong = |text: String| Response::text(text).with_status(StatusCode::BAD_REQUEST);
    for pair in request.query.split('&').filter(|pair| !pair.is_empty()) {
        let (part, name) = pair.split_once('=').unwrap_or((pair, ""));
        let level = match log::level(name) {
            Ok(level) => level,
            Err(error) => return wrong(format!("{error}\n")),
        };
        if !log::set((part != "level").then_some(part), level) {
            return wrong(format!("error: unknown logger `{part}`; there are {}\n", log::PARTS.join(", ")));
        }
    }
    let lines = log::levels().into_iter().map(|(part, level)| format!("  {part}: {level}\n"));
    Response::text(format!("active loggers:\n{}", lines.collect::<String>()))
}
