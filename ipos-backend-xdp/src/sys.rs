//! All of this crate's `unsafe` code: memory shared with the kernel, and bpf(2).

#![allow(unsafe_code)]

pub(crate) mod bpf;
pub(crate) mod buffers;
pub(crate) mod mapping;
