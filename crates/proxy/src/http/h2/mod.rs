//! HTTP/2 on the `h2` crate: conversion of heads, and bodies as sources and sinks.

pub mod convert;
pub mod cork;
pub mod stream;

pub use stream::{H2Sink, H2Source};
