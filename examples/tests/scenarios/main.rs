//! The hand-over under faults: `inic` processes in namespaces, unmodified applications and clients, cables that lose and
//! break, servers that are killed. Needs the right to make network namespaces and the programs that each test names; says so
//! and does nothing without.

#![allow(missing_docs, reason = "a test")]

mod bed;
#[path = "../common/client.rs"]
mod client;
#[path = "../common/mod.rs"]
mod common;
mod datagrams;
mod device;
mod first_server;
mod lossy;
mod owner;
mod port_b;
mod requests;
#[path = "../common/site.rs"]
mod site;
#[path = "../common/traffic.rs"]
mod traffic;
