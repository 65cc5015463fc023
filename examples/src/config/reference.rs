//! `docs/configuration.md` names every key, and tells the defaults.

use super::*;

const REFERENCE: &str = include_str!("../../../docs/configuration.md");

/// What stands between the `number`th fence of TOML and its end.
fn block(number: usize) -> &'static str {
    let block = REFERENCE.split("```toml\n").nth(number + 1);
    block.and_then(|block| block.split("```").next()).unwrap()
}

fn read(text: &str) -> Result<FileConfig, FileError> {
    FileConfig::parse(Path::new("inic.toml"), text)
}

#[test]
fn defaults_are_told() {
    let told = read(block(0)).unwrap();
    let needed = include_str!("../../tests/minimal.toml");
    let default = read(needed).unwrap();
    let seen = |file: &FileConfig| {
        let device = file.device(Interfaces::ETHERNET, Start::default()).unwrap();
        let engine = (file.health(), file.linger(), file.cpu());
        let ports = (file.carrier(), file.xdp(), file.applications());
        format!("{device:#?} {engine:?} {ports:?} {:?}", file.admin())
    };
    assert_eq!(seen(&told), seen(&default));
    told.check_reload(&default).unwrap();

    // Sections that are not there by default tell theirs, too.
    let session = |section: &str| {
        let file = read(&format!("{needed}\n{section}")).unwrap();
        format!(
            "{:?} {:?}",
            file.device(Interfaces::ETHERNET, Start::default())
                .unwrap()
                .content,
            file.admin()
        )
    };
    let section = |name: &str| {
        let block = block(1);
        let begin = block.find(&format!("[{name}]")).unwrap();
        let section = block[begin..].split("\n\n").next().unwrap();
        section.to_owned()
    };
    for name in ["session", "admin"] {
        assert_eq!(
            session(&section(name)),
            session(&format!("[{name}]")),
            "{name}"
        );
    }
}

#[test]
fn every_key_is_there() {
    let told = block(0).to_owned() + block(1);
    let lines = told.lines().map(|line| line.trim_start_matches('#'));
    let mut section = String::new();
    let mut keys = std::collections::BTreeSet::new();
    for line in lines {
        match line.split_once([']', '=']) {
            Some((name, _)) if line.starts_with('[') => section = name.trim_matches('[').to_owned(),
            Some((key, _)) => _ = keys.insert(position::join(&section, key.trim())),
            None => {}
        }
    }
    let of = |section: &str| {
        // A table of that name has no key that is only `?`: the error lists those it may have.
        let text = match section {
            "" => "\"?\" = 0".to_owned(),
            "url_map" | "ssl_map" | "listen" => format!("[[{section}]]\n\"?\" = 0"),
            _ => format!("[{section}]\n\"?\" = 0"),
        };
        let message = toml::from_str::<Sections>(&text).unwrap_err();
        let message = message.message().to_owned();
        let (_, known) = message
            .split_once("expected ")
            .unwrap_or_else(|| panic!("{section}: {message}"));
        let names: Vec<_> = known
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        assert!(!names.is_empty(), "{section}: {message}");
        names
    };
    let mut known = 0;
    for name in of("") {
        if ["name", "backend", "stack"].contains(&name.as_str()) {
            assert!(keys.contains(&name), "{name}");
            continue;
        }
        for key in of(&name) {
            let key = position::join(&name, &key);
            assert!(keys.contains(&key), "{key} is not in docs/configuration.md");
            known += 1;
        }
    }
    assert!(known > 60, "{known}");
}
