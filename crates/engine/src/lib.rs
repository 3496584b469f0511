//! Decisions without I/O: routing, balancing, retries. Time and randomness are arguments.
