//! Configuration kinds as users write them: parse with spans, validate, convert.
