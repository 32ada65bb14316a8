//! Wire to domain and back: each check of a request exists once, here.
//!
//! Both protocols give their fields as a struct (`RerankFields`, `QueryFields`, ...), whose
//! `into_request` checks the limits. What is of the wrong type never gets so far: HTTP reports all of
//! that at once, so what a field may hold whatever the protocol (`top_n`) is a function of its own.

pub(crate) mod collections;
pub(crate) mod documents;
pub(crate) mod filter;
pub(crate) mod queries;
mod rerank;

pub(crate) use rerank::*;
