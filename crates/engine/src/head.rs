//! A message head: the received bytes plus a table of offsets, edited in place of rebuilding.
//!
//! HTTP/1 and HTTP/2 heads share this form. The bytes of an HTTP/1 head are kept as they came, so that lines
//! nobody touched can be forwarded in one copy. A `Head` is reused from message to message and does not
//! allocate once its buffers have grown.

/// A range of `Head::bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

impl Span {
    pub fn new(start: usize, len: usize) -> Self {
        Span { start: start as u32, len: len as u32 }
    }

    pub fn end(self) -> usize {
        self.start as usize + self.len as usize
    }
}

/// Fields with a meaning to the proxy itself, recognised once when the head is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    Upgrade,
    Te,
    Trailer,
    Expect,
    Date,
    Server,
    Http2Settings,
}

impl Known {
    /// Recognises a field name in any case.
    pub fn of(name: &[u8]) -> Known {
        match name.len() {
            2 if is(name, b"te") => Known::Te,
            4 if is(name, b"host") => Known::Host,
            4 if is(name, b"date") => Known::Date,
            6 if is(name, b"expect") => Known::Expect,
            6 if is(name, b"server") => Known::Server,
            7 if is(name, b"upgrade") => Known::Upgrade,
            7 if is(name, b"trailer") => Known::Trailer,
            10 if is(name, b"connection") => Known::Connection,
            10 if is(name, b"keep-alive") => Known::KeepAlive,
            14 if is(name, b"http2-settings") => Known::Http2Settings,
            14 if is(name, b"content-length") => Known::ContentLength,
            16 if is(name, b"proxy-connection") => Known::ProxyConnection,
            17 if is(name, b"transfer-encoding") => Known::TransferEncoding,
            _ => Known::Other,
        }
    }

    /// Fields that describe one connection and are never forwarded (RFC 9110 section 7.6.1).
    pub fn hop_by_hop(self) -> bool {
        matches!(
            self,
            Known::TransferEncoding
                | Known::Connection
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::Upgrade
                | Known::Te
                | Known::Http2Settings
        )
    }
}

/// Equal but for case; `name` consists of token characters, `wanted` is in lower case. Without branches, since the
/// length is known: this is asked for every field of every head.
fn is<const N: usize>(name: &[u8], wanted: &[u8; N]) -> bool {
    let Ok(name) = <&[u8; N]>::try_from(name) else { return false };
    (0..N).fold(0, |differs, at| differs | ((name[at] | 0x20) ^ wanted[at])) == 0
}

#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: Span,
    pub value: Span,
    /// The whole line with its CRLF, when it can be forwarded as it came; empty otherwise.
    pub line: Span,
    pub known: Known,
    pub removed: bool,
}

/// A request or response head.
#[derive(Clone, Debug, Default)]
pub struct Head {
    bytes: Vec<u8>,
    fields: Vec<Field>,
    /// A bit for each `Known` kind and each length (modulo 64) of the names there are or were: most questions are about
    /// fields that are not there, and end here.
    kinds: u16,
    lengths: u64,
    pub method: Span,
    /// Path with query; empty for CONNECT.
    pub path: Span,
    /// Host with optional port: `:authority` or `Host`.
    pub authority: Span,
    /// `http` or `https`.
    pub scheme: Span,
    /// Responses only.
    pub status: u16,
}

impl Head {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.kinds = 0;
        self.lengths = 0;
        self.method = Span::default();
        self.path = Span::default();
        self.authority = Span::default();
        self.scheme = Span::default();
        self.status = 0;
    }

    /// Its buffers have been allocated.
    pub fn has_room(&self) -> bool {
        self.bytes.capacity() > 0
    }

    /// It grew beyond what heads usually need.
    pub fn is_huge(&self) -> bool {
        self.bytes.capacity() > 16 * 1024
    }

    /// Takes over `raw` as the start of the byte store, for fields that were added as spans of it.
    pub fn load(&mut self, raw: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(raw);
    }

    /// Adds a field whose line lies in the bytes that are loaded, or will be.
    pub fn push_line(&mut self, known: Known, name: Span, value: Span, line: Span) {
        self.add(Field { name, value, line, known, removed: false });
    }

    /// Appends a field with bytes of its own.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let known = Known::of(name);
        let name = self.store(name);
        let value = self.store(value);
        self.add(Field { name, value, line: Span::default(), known, removed: false });
    }

    fn add(&mut self, field: Field) {
        self.kinds |= 1 << field.known as u16;
        self.lengths |= 1 << (field.name.len % 64);
        self.fields.push(field);
    }

    /// False: no field is called so. True: perhaps one is.
    fn may_have(&self, name: &[u8]) -> bool {
        self.lengths & (1 << (name.len() % 64)) != 0
    }

    fn may_have_known(&self, known: Known) -> bool {
        self.kinds & (1 << known as u16) != 0
    }

    fn is_called(&self, field: &Field, name: &[u8]) -> bool {
        field.name.len as usize == name.len() && self.slice(field.name).eq_ignore_ascii_case(name)
    }

    /// Keeps `text` in the byte store.
    pub fn store(&mut self, text: &[u8]) -> Span {
        let span = Span::new(self.bytes.len(), text.len());
        self.bytes.extend_from_slice(text);
        span
    }

    pub fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..span.end()]
    }

    pub fn method(&self) -> &[u8] {
        self.slice(self.method)
    }

    pub fn path(&self) -> &[u8] {
        self.slice(self.path)
    }

    /// The path without the query.
    pub fn path_only(&self) -> &[u8] {
        let path = self.path();
        match memchr::memchr2(b'?', b'#', path) {
            Some(at) => &path[..at],
            None => path,
        }
    }

    /// The query without `?`, if there is one.
    pub fn query(&self) -> Option<&[u8]> {
        let path = self.path();
        memchr::memchr(b'?', path).map(|at| &path[at + 1..])
    }

    pub fn authority(&self) -> &[u8] {
        self.slice(self.authority)
    }

    pub fn scheme(&self) -> &[u8] {
        self.slice(self.scheme)
    }

    pub fn set_method(&mut self, method: &[u8]) {
        self.method = self.store(method);
    }

    pub fn set_path(&mut self, path: &[u8]) {
        self.path = self.store(path);
    }

    pub fn set_authority(&mut self, authority: &[u8]) {
        self.authority = self.store(authority);
    }

    pub fn set_scheme(&mut self, scheme: &[u8]) {
        self.scheme = self.store(scheme);
    }

    /// The live fields in order.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| !field.removed)
    }

    pub fn len(&self) -> usize {
        self.fields().count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first value of `name` (any case).
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        if !self.may_have(name) {
            return None;
        }
        self.fields().find(|field| self.is_called(field, name)).map(|field| self.slice(field.value))
    }

    /// All values of `name`, in order.
    pub fn all<'h, 'n>(&'h self, name: &'n [u8]) -> impl Iterator<Item = &'h [u8]> + use<'h, 'n> {
        let fields = if self.may_have(name) { &self.fields[..] } else { &[] };
        fields
            .iter()
            .filter(move |field| !field.removed && self.is_called(field, name))
            .map(|field| self.slice(field.value))
    }

    pub fn get_known(&self, known: Known) -> Option<&[u8]> {
        if !self.may_have_known(known) {
            return None;
        }
        self.fields().find(|field| field.known == known).map(|field| self.slice(field.value))
    }

    pub fn count_known(&self, known: Known) -> usize {
        if !self.may_have_known(known) {
            return 0;
        }
        self.fields().filter(|field| field.known == known).count()
    }

    /// Removes every field called `name`; tells whether there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let mut found = false;
        if !self.may_have(name) {
            return found;
        }
        for at in 0..self.fields.len() {
            let field = self.fields[at];
            if !field.removed && self.is_called(&field, name) {
                self.fields[at].removed = true;
                found = true;
            }
        }
        found
    }

    pub fn remove_known(&mut self, known: Known) {
        if self.may_have_known(known) {
            self.remove_known_if(|other| other == known);
        }
    }

    pub fn remove_known_if(&mut self, drop: impl Fn(Known) -> bool) {
        for field in &mut self.fields {
            field.removed |= drop(field.known);
        }
    }

    /// Removes fields for which `drop` says so.
    pub fn remove_if(&mut self, mut drop: impl FnMut(&[u8], &[u8]) -> bool) {
        for at in 0..self.fields.len() {
            let field = self.fields[at];
            if !field.removed && drop(self.slice(field.name), self.slice(field.value)) {
                self.fields[at].removed = true;
            }
        }
    }

    /// Replaces all values of `name` by one, in the place of the first.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        if !self.may_have(name) {
            return self.push(name, value);
        }
        let mut first = None;
        for at in 0..self.fields.len() {
            let field = self.fields[at];
            if !field.removed && self.is_called(&field, name) {
                if first.is_none() {
                    first = Some(at);
                } else {
                    self.fields[at].removed = true;
                }
            }
        }
        match first {
            None => self.push(name, value),
            Some(at) => {
                let value = self.store(value);
                let field = &mut self.fields[at];
                field.value = value;
                field.line = Span::default();
            }
        }
    }

    /// Is `token` in the comma-separated list of any field `name`? Case is ignored.
    pub fn has_token(&self, known: Known, token: &[u8]) -> bool {
        self.may_have_known(known)
            && self
                .fields()
                .filter(|field| field.known == known)
                .any(|field| tokens(self.slice(field.value)).any(|item| item.eq_ignore_ascii_case(token)))
    }

    pub fn is_grpc(&self) -> bool {
        let Some(content_type) = self.get(b"content-type") else { return false };
        match content_type.strip_prefix(b"application/grpc") {
            Some(rest) => rest.is_empty() || rest[0] == b'+' || rest[0] == b';',
            None => false,
        }
    }
}

/// The items of a comma-separated list, trimmed, without empty ones (RFC 9110 section 5.6.1).
pub fn tokens(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Head {
        let mut head = Head::default();
        head.set_method(b"GET");
        head.set_path(b"/a?b=1");
        head.push(b"Host", b"shop");
        head.push(b"X-A", b"1");
        head.push(b"x-a", b"2");
        head.push(b"Connection", b"close, X-Hop");
        head
    }

    #[test]
    fn lookups_ignore_case() {
        let head = sample();
        assert_eq!(head.get(b"HOST"), Some(&b"shop"[..]));
        assert_eq!(head.all(b"x-A").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(head.get_known(Known::Host), Some(&b"shop"[..]));
        assert!(head.has_token(Known::Connection, b"x-hop"));
        assert!(!head.has_token(Known::Connection, b"keep-alive"));
    }

    #[test]
    fn set_keeps_place_and_drops_others() {
        let mut head = sample();
        head.set(b"x-a", b"9");
        assert_eq!(head.all(b"x-a").collect::<Vec<_>>(), [b"9"]);
        assert_eq!(head.len(), 3);
        assert!(head.remove(b"X-a"));
        assert!(!head.remove(b"x-a"));
        assert_eq!(head.len(), 2);
    }

    #[test]
    fn path_parts() {
        let head = sample();
        assert_eq!(head.path_only(), b"/a");
        assert_eq!(head.query(), Some(&b"b=1"[..]));
    }

    #[test]
    fn known_names() {
        for (name, known) in [
            ("Transfer-Encoding", Known::TransferEncoding),
            ("TE", Known::Te),
            ("Trailer", Known::Trailer),
            ("upgrade", Known::Upgrade),
            ("x-other", Known::Other),
            ("hosT", Known::Host),
            ("data", Known::Other),
        ] {
            assert_eq!(Known::of(name.as_bytes()), known, "{name}");
        }
    }
}
