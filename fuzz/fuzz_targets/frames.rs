//! Any bytes from the ipOS header on: no panic, and what is read is written and read back equal.

#![no_main]

use ipos_proto::{ETHERNET_LEN, Ethernet, Frame, HEADER_LEN, Header, internet_checksum};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok((ethernet, rest)) = Ethernet::parse(data) {
        assert_eq!(ethernet.to_bytes(), data[..ETHERNET_LEN]);
        round_trip(rest);
    }
    round_trip(data);
    // No fuzzer finds checksums: the same bytes with the right one.
    let mut data = data.to_vec();
    if let Some(header) = data.first_chunk_mut::<HEADER_LEN>() {
        header[14..].fill(0);
        let checksum = internet_checksum(header);
        header[14..].copy_from_slice(&checksum.to_be_bytes());
        round_trip(&data);
    }
});

fn round_trip(data: &[u8]) {
    if let Ok((header, rest)) = Header::parse(data) {
        assert_eq!(header.to_bytes()[..14], data[..14]);
        assert_eq!(rest.len(), data.len() - HEADER_LEN);
    }
    match Frame::parse(data) {
        Ok(frame) => {
            let mut out = vec![0; data.len()];
            let len = frame
                .emit(&mut out)
                .expect("a frame that was read fits where it was");
            assert_eq!(len, frame.frame_len());
            assert_eq!(Frame::parse(&out[..len]), Ok(frame));
            assert!(frame.emit(&mut out[..len - 1]).is_err());
        }
        Err(error) => assert!(error.offset() <= data.len() && !error.to_string().is_empty()),
    }
}
