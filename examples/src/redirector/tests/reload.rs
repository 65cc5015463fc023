//! The farm key changes while a redirector runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use ipos_core::FarmKey;

use super::super::reload::Reloader;
use super::super::servers::Ignored;
use super::super::{Redirector, config};
use super::*;

const FILE: &str = r#"
[synch]
interface = "lo"

[[http]]
listen = "127.0.0.1:80"

[[group]]
service = "web"
"#;
const SECURITY: &str = "\n[security]\nfarm_key_file = \"farm.key\"\n";

/// A redirector with its files.
struct Bed {
    directory: tempfile::TempDir,
    redirector: Arc<Redirector>,
    reloader: Reloader,
    voice: Voice,
}

impl Bed {
    /// Whose key file has these keys.
    fn new(keys: &[u8]) -> Bed {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("redirector.toml");
        fs::write(&file, format!("{FILE}{SECURITY}")).unwrap();
        write_keys(directory.path(), keys);
        let redirector = Arc::new(Redirector::new(config::read(&file).unwrap(), 1));
        let mut voice = Voice::new(11);
        voice.flags = SynchFlags::TAGGED;
        Bed {
            reloader: Reloader::new(&file, Arc::clone(&redirector)),
            directory,
            redirector,
            voice,
        }
    }

    fn rewrite(&self, text: &str) {
        fs::write(self.directory.path().join("redirector.toml"), text).unwrap();
    }

    /// What comes of a report that is signed with this key.
    fn hear(&mut self, key: u8) -> Result<(), Ignored> {
        let mut report = self.voice.high(0);
        FarmKey::new([key; FarmKey::LEN]).sign(&mut report);
        let from = self.voice.synch();
        let heard = self
            .redirector
            .with(|state, now| state.servers.hear(now, from, &report));
        heard.map(drop)
    }
}

/// A key is the same byte again and again.
fn write_keys(directory: &Path, keys: &[u8]) {
    let file = directory.join("farm.key");
    let lines = keys
        .iter()
        .map(|key| format!("{key:02x}").repeat(FarmKey::LEN));
    fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_key_takes_the_place_of_another_with_an_overlap() {
    let mut bed = Bed::new(&[1]);
    assert_eq!((bed.hear(1), bed.hear(2)), (Ok(()), Err(Ignored::Forged)));
    assert!(!bed.reloader.try_reload().unwrap());
    write_keys(bed.directory.path(), &[1, 2]);
    // Not before it is told to.
    assert_eq!(bed.hear(2), Err(Ignored::Forged));
    assert!(bed.reloader.try_reload().unwrap());
    assert_eq!((bed.hear(1), bed.hear(2)), (Ok(()), Ok(())));
    write_keys(bed.directory.path(), &[2]);
    assert!(bed.reloader.try_reload().unwrap());
    assert_eq!((bed.hear(1), bed.hear(2)), (Err(Ignored::Forged), Ok(())));
    // Without a key, what has a tag is of another farm.
    bed.rewrite(FILE);
    assert!(bed.reloader.try_reload().unwrap());
    assert_eq!(bed.hear(2), Err(Ignored::Forged));
}

#[test]
fn what_does_not_do_changes_nothing() {
    let mut bed = Bed::new(&[1]);
    write_keys(bed.directory.path(), &[2]);
    let whole = format!("{FILE}{SECURITY}");
    for (text, expected) in [
        (whole.replace(":80", ":81"), "http: needs a restart"),
        (whole.replace("web", "shop"), "group: needs a restart"),
        (
            whole.replace("\"lo\"", "\"lo\"\nport = 7008"),
            "synch.port: needs a restart",
        ),
        (
            format!("{whole}\n[limits]\nservers = 7"),
            "limits.servers: needs a restart",
        ),
        (whole.replace("listen", "listens"), "http[0].listens: "),
    ] {
        bed.rewrite(&text);
        let error = bed.reloader.try_reload().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(bed.hear(1), Ok(()), "{expected}");
    }
    bed.rewrite(&whole);
    let key = bed.directory.path().join("farm.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let error = bed.reloader.try_reload().unwrap_err().to_string();
    assert!(error.contains("security.farm_key_file"), "{error}");
    assert_eq!((bed.hear(1), bed.hear(2)), (Ok(()), Err(Ignored::Forged)));
}
