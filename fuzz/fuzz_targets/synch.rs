//! Any bytes as a Synch message: no panic, and what is read is written and read back equal.

#![no_main]

use ipos_proto::synch::{SynchHeader, SynchMessage, SynchWriter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(message) = SynchMessage::parse(data) else {
        return;
    };
    assert!(message.message_len() <= data.len());
    let SynchHeader {
        kind,
        flags,
        incarnation,
        sequence,
        ..
    } = *message.header();
    let mut writer = SynchWriter::new(kind, flags, incarnation, sequence, data.len());
    for record in message.records() {
        writer
            .push(&record)
            .expect("a record that was read fits where it was");
    }
    let datagrams = writer.finish();
    let [datagram] = &datagrams[..] else {
        panic!("{} datagrams", datagrams.len())
    };
    let again = SynchMessage::parse(datagram).expect("what was written is right");
    assert!(again.records().eq(message.records()));
    assert_eq!((again.header().kind, again.header().flags), (kind, flags));
    assert_eq!(again.message_len(), datagram.len());
});
