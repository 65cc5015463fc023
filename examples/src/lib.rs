//! What the bundled programs share.

pub mod admin;
pub mod axum_farm;
pub mod backend;
pub mod config;
mod connections;
mod device_thread;
pub mod dissect;
pub mod farm;
pub mod key_file;
pub mod program;
pub mod redirector;
pub mod reload;
pub mod server;
mod wording;

/// The README's program is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}

/// So is that of the libraries' guide.
#[cfg(doctest)]
#[doc = include_str!("../../docs/libraries.md")]
mod libraries {}
