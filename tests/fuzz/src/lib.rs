//! What the fuzzers call: a function for each thing that takes bytes from elsewhere, which panics when it finds a mistake.
//!
//! `loadgen` is a program and has no library; its files are compiled here once more, under the names that they have there.
#![allow(dead_code, unused_imports, missing_docs, reason = "of loadgen only what reads is called")]

#[path = "../../../src/buffer.rs"]
mod buffer;
#[path = "../../../src/queue.rs"]
mod queue;

/// Its files name each other as what stands at the root of their crate.
#[path = "../../../loadgen/src"]
mod loadgen {
    pub(crate) mod accept_queues;
    pub(crate) mod address;
    pub(crate) mod alarm;
    pub(crate) mod alike;
    pub(crate) mod announcer;
    pub(crate) mod args;
    pub(crate) mod cgroup;
    pub(crate) mod churn;
    pub(crate) mod client;
    pub(crate) mod clock;
    pub(crate) mod closed;
    pub(crate) mod compare;
    pub(crate) mod connector;
    pub(crate) mod crew;
    pub(crate) mod demo;
    pub(crate) mod diagnosis;
    pub(crate) mod doctor;
    pub(crate) mod documents;
    pub(crate) mod echo;
    pub(crate) mod errno;
    pub(crate) mod failure;
    pub(crate) mod gate;
    pub(crate) mod halt;
    pub(crate) mod interval;
    pub(crate) mod knocks;
    pub(crate) mod layers;
    pub(crate) mod layout;
    pub(crate) mod listen_address;
    pub(crate) mod live;
    pub(crate) mod load;
    pub(crate) mod machine;
    pub(crate) mod merge;
    pub(crate) mod moment;
    pub(crate) mod netstat;
    pub(crate) mod output;
    pub(crate) mod parts;
    pub(crate) mod payload;
    pub(crate) mod pipeline;
    pub(crate) mod places;
    pub(crate) mod plan;
    pub(crate) mod preflight;
    pub(crate) mod problem;
    pub(crate) mod progress;
    pub(crate) mod protocol;
    pub(crate) mod quantity;
    pub(crate) mod recorder;
    pub(crate) mod report;
    pub(crate) mod results;
    pub(crate) mod routes;
    pub(crate) mod run;
    pub(crate) mod schedule;
    pub(crate) mod search;
    pub(crate) mod series;
    pub(crate) mod serve;
    pub(crate) mod server_process;
    pub(crate) mod shard;
    pub(crate) mod shell;
    pub(crate) mod signals;
    pub(crate) mod slo;
    pub(crate) mod source_list;
    pub(crate) mod stage;
    pub(crate) mod standstill;
    pub(crate) mod strange;
    pub(crate) mod target;
    pub(crate) mod terminal;
    pub(crate) mod timeline;
    pub(crate) mod times;
    pub(crate) mod timetable;
    pub(crate) mod tips;
    pub(crate) mod unlike;
    pub(crate) mod unshared;
    pub(crate) mod verdict;
    pub(crate) mod view;
    pub(crate) mod wires;
    pub(crate) mod worker;
}
use loadgen::*;

mod bytes;
mod readers;
mod service;
mod sockets;

pub use bytes::{byte_queue, send_queue};
pub use readers::{http_responses, results_json, script, server_frames, words};
pub use service::{handler, take_over};
pub use sockets::{frames, handshake};

/// Each by its name, which is that of its corpus.
pub const TARGETS: [(&str, fn(&[u8])); 11] = [
    ("byte_queue", byte_queue),
    ("send_queue", send_queue),
    ("take_over", take_over),
    ("handler", handler),
    ("results_json", results_json),
    ("http_responses", http_responses),
    ("server_frames", server_frames),
    ("script", script),
    ("words", words),
    ("frames", frames),
    ("handshake", handshake),
];

/// What `loadgen`'s files ask of its `main.rs`.
fn command_line() -> Vec<String> {
    std::env::args().collect()
}
