//! The data plane's I/O shell; flow/ is the spine, read it first.
