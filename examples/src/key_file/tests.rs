use std::fs::{self, Permissions};

use super::*;

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

/// Reads a key file with this text and these permissions; an error without the directory.
fn read_with(text: &[u8], mode: u32) -> Result<FarmKey, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("farm.key");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    let configuration = directory.path().join("inic.toml");
    let place = format!("{}/", directory.path().display());
    read(&configuration, Path::new("farm.key"))
        .map_err(|error| error.to_string().replace(&place, ""))
}

#[test]
fn the_owners_file_beside_the_configuration() {
    let key = FarmKey::new(std::array::from_fn(|i| i as u8));
    for mode in [0o600, 0o400, 0o700] {
        assert_eq!(read_with(KEY.as_bytes(), mode), Ok(key.clone()));
    }
}

#[test]
fn a_file_that_others_may_read_or_write() {
    for mode in [0o640, 0o604, 0o620, 0o602, 0o644, 0o666] {
        let what =
            format!("`farm.key` is not its owner's alone (mode 0{mode:o}): `chmod 600 farm.key`");
        assert_eq!(read_with(KEY.as_bytes(), mode), Err(what));
    }
}

#[test]
fn what_is_no_key_file() {
    let error = |text: &[u8]| read_with(text, 0o600).unwrap_err();
    assert_eq!(
        error(b""),
        "`farm.key` has no key: make one with `openssl rand -hex 32`"
    );
    let told = error(b"# the farm's\nsecret\n");
    assert!(
        told.starts_with("`farm.key` line 2 is not a key: 32 bytes"),
        "{told}"
    );
    assert!(!told.contains("secret"), "{told}");
    assert_eq!(
        error(&[b'#'; LONGEST + 1]),
        "`farm.key` is longer than 4096 bytes: that is no key file"
    );
    assert!(error(&[0xff; 32]).starts_with("`farm.key` cannot be read: "));
}

#[test]
fn a_file_that_is_not_there_or_not_a_file() {
    let configuration = Path::new("/nonexistent/inic.toml");
    let error = |name: &str| {
        read(configuration, Path::new(name))
            .unwrap_err()
            .to_string()
    };
    assert!(error("farm.key").starts_with("`/nonexistent/farm.key` cannot be read: "));
    assert_eq!(error("/dev"), "`/dev` is not a regular file");
}
