//! The reranker service: zerank cross-encoders over gRPC, over the hosted API's HTTP shape and
//! from the command line.
//!
//! ```text
//! main ──> cli ──> config, telemetry, app, server          cli/bench: a client of both protocols
//!                  └─> collection, api/http/lines          cli/collections: a data folder without a server
//! server ──> api ──> app ──> rerank ──> reranker_engine (Engine, Ticket, Scores)
//!                    ├─> queries ─> rerank, collection
//!                    ├─> collection (Store) ─> embedded;  ingest ─> parse
//!                    ├─> downloads: links that are their own permission
//!                    └─> auth, rate_limit: who calls, how much they may
//! app ──> mock: canned scores instead of a model (`--mock`)
//! error: a leaf, open to all.   config: main, cli, telemetry only.
//! app owns metrics; api, through its layers, counts in them.
//!
//! Only there:   tonic, prost, reranker_proto   api/grpc, api/convert, server, cli/bench/grpc
//!               axum                           api/http, server
//!               hyper, tokio_rustls            server
//!               clap, std::env                 config, cli, main
//!               reqwest                        cli/bench/http
//!               opentelemetry                  telemetry
//!               prometheus_client              metrics
//!               rusqlite, tantivy              collection/embedded
//!               readers of PDF, DOCX, HTML     parse
//! ```
//!
//! Invariants
//! - Wire types end in `api`; domain types derive no serde of any wire.
//! - A check of a request exists once, in `api::convert`, and an error has one row for both
//!   protocols, in `error`.
//! - A request passes the gate ([`app::App::admit`]) whole or not at all; draining waits for those
//!   that have passed it, and lets in what comes on connections that were there before.
//! - Texts become tokens on the blocking pool, never on an async thread.
//! - `SQLite` is the truth of the embedded store; its search indexes may vanish and nothing is lost.
//! - Ranges are characters on the wire and bytes in an index.
//! - Every task and thread has an owner that joins it; if a model's worker ends, the process ends.

mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod collection;
pub mod config;
pub mod downloads;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod metrics;
mod mock;
pub mod parse;
pub mod queries;
pub mod rate_limit;
pub mod rerank;
pub mod server;
pub mod telemetry;
