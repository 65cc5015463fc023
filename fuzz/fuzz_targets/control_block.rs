//! Any bytes as a control block: no panic, what is read holds, and is written as it came.

#![no_main]

use ipos_proto::{CONTROL_BLOCK_LEN, ControlBlock};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(block) = ControlBlock::parse(data) else {
        return;
    };
    assert_eq!(block.validate(), Ok(()));
    let written = block.to_bytes();
    assert_eq!(ControlBlock::parse(&written), Ok(block));
    // The byte after the timer and the last 18 are zero, and ignored.
    let mut read = [0; CONTROL_BLOCK_LEN];
    read.copy_from_slice(&data[..CONTROL_BLOCK_LEN]);
    read[109] = 0;
    read[122..].fill(0);
    assert_eq!(written, read);
});
