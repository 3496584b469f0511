//! Fake clock, CA, echo servers, a mesh in a process. A dev-dependency only.
