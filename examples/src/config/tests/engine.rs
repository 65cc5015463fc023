//! What moves frames, and how the loop waits.

use super::*;

#[test]
fn backends_are_pnet_and_xdp() {
    let carrier = |text: &str| parse(text).unwrap().carrier();
    assert_eq!(carrier(GOOD), Carrier::Pnet);
    assert_eq!(carrier(&GOOD.replace("\"pnet\"", "\"xdp\"")), Carrier::Xdp);
    let message = error("\"pnet\"", "\"afpacket\"");
    assert!(message.starts_with("inic.toml: backend: "), "{message}");
    let sizes = |text: &str| parse(&GOOD.replace("[limits]", text)).map(|file| file.xdp());
    assert_eq!(sizes("[limits]").unwrap(), Sizes::default());
    let given = sizes("[xdp]\nring = 4096\nbuffers = 50000\n[limits]").unwrap();
    assert_eq!((given.ring, given.buffers), (4096, 50_000));
    for (text, what) in [
        (
            "ring = 100",
            "xdp.ring: 100: a power of two from 64 to 32768 is needed",
        ),
        ("buffers = 3", "xdp.buffers: 3: 384..=1048576 are possible"),
        (
            "busy_poll_us = 2000000",
            "xdp.busy_poll_us: 2000000: 0..=1000000 are possible",
        ),
    ] {
        let error = sizes(&format!("[xdp]\n{text}\n[limits]")).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
    assert!(
        message.contains("`pnet`") && message.contains("`xdp`"),
        "{message}"
    );
}

#[test]
fn the_loop_sleeps_or_does_not() {
    let file = |text: &str| parse(&GOOD.replace("[limits]", &format!("{text}\n[limits]")));
    for (text, linger, cpu) in [
        ("", Duration::ZERO, None),
        ("[engine]", Duration::ZERO, None),
        (
            "[engine]\nmode = \"sleep\"\nbusy_poll_us = 50\ncpu = 1",
            Duration::from_micros(50),
            Some(1),
        ),
        ("[engine]\nmode = \"busy\"", Duration::MAX, None),
    ] {
        let file = file(text).unwrap();
        assert_eq!((file.linger(), file.cpu()), (linger, cpu), "{text}");
    }
    for (text, what) in [
        (
            "mode = \"poll\"",
            "engine.mode: unknown variant `poll`, expected `sleep` or `busy`",
        ),
        (
            "mode = \"busy\"\nbusy_poll_us = 5",
            "engine.busy_poll_us: mode `busy` never sleeps anyway",
        ),
        (
            "busy_poll_us = 1000001",
            "engine.busy_poll_us: 1000001: 0..=1000000 are possible",
        ),
        ("cores = 2", "engine.cores"),
    ] {
        let error = file(&format!("[engine]\n{text}")).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
    let busy = file("[engine]\nmode = \"busy\"").unwrap();
    let error = file("").unwrap().check_reload(&busy).unwrap_err();
    assert!(
        error.to_string().contains("engine: needs a restart"),
        "{error}"
    );
}
