//! Every configuration that the guides show is one that the programs take.

#![allow(missing_docs, reason = "a test")]

#[allow(dead_code, reason = "programs' paths are all that is needed")]
mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::{Table, Value};

/// What a piece of a file for `inic` is put into, listening elsewhere.
const INIC: &str = include_str!("minimal.toml");

/// A block of TOML, and where it begins.
struct Block {
    place: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The guides: texts at the top, and in `docs`.
fn guides() -> Vec<PathBuf> {
    let mut guides: Vec<PathBuf> = [root(), root().join("docs")]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "md"))
        .collect();
    guides.sort();
    guides
}

fn blocks(guide: &Path) -> Vec<Block> {
    let text = fs::read_to_string(guide).unwrap();
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line == "```toml" {
            let inside = lines.by_ref().map(|(_, line)| line);
            let text: Vec<_> = inside.take_while(|line| *line != "```").collect();
            blocks.push(Block {
                place: format!("{}:{}", guide.display(), number + 1),
                text: text.join("\n"),
            });
        }
    }
    blocks
}

/// The whole file that a block is, or that it is a piece of: its tables take the place of those there, its entries are more.
fn whole(block: &Table, base: &str) -> Table {
    let mut whole: Table = base.parse().unwrap();
    for (key, value) in block {
        match (whole.get_mut(key), value) {
            (Some(Value::Array(there)), Value::Array(more)) => there.extend(more.iter().cloned()),
            _ => {
                whole.insert(key.clone(), value.clone());
            }
        }
    }
    whole
}

/// What `program --check` says of a file, if it is not content.
fn check(program: &str, file: &Path) -> Result<(), String> {
    let output = Command::new(common::example(program))
        .arg("--check")
        .arg("--config")
        .arg(file)
        .output()
        .unwrap();
    match output.status.code() {
        Some(0) => Ok(()),
        _ => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

#[test]
fn configurations_of_the_guides_are_good() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("farm.key");
    fs::write(&key, "00".repeat(32)).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let file = directory.path().join("file.toml");
    let (mut whole_files, mut pieces) = (0, 0);
    for guide in guides() {
        for Block { place, text } in blocks(&guide) {
            let table: Table = text
                .parse()
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            let is_redirector = guide.ends_with("redirector.md");
            let is_whole = is_redirector || table.contains_key("name");
            let (program, text) = match is_whole {
                true if is_redirector => ("redirector", text),
                // As it stands there, so that line numbers are the guide's.
                true => ("inic", text),
                false => (
                    "inic",
                    whole(&table, &INIC.replace(":80\"", ":9999\"")).to_string(),
                ),
            };
            *(if is_whole {
                &mut whole_files
            } else {
                &mut pieces
            }) += 1;
            fs::write(&file, &text).unwrap();
            if let Err(error) = check(program, &file) {
                panic!("{place}: {program} --check: {error}\n{text}");
            }
        }
    }
    // README, machines, redirector; what the other guides show of a file.
    assert!(whole_files >= 3 && pieces >= 6, "{whole_files} {pieces}");
}

#[test]
fn links_of_the_guides_lead_somewhere() {
    for guide in guides() {
        let text = fs::read_to_string(&guide).unwrap();
        let folder = guide.parent().unwrap();
        for target in text.split("](").skip(1) {
            let target = target.split(')').next().unwrap();
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            if path.contains("://") {
                continue;
            }
            let leads_to = match path {
                "" => guide.clone(),
                path => folder.join(path),
            };
            let place = format!("{}: {target}", guide.display());
            assert!(leads_to.exists(), "{place}");
            if !heading.is_empty() {
                let text = fs::read_to_string(&leads_to).unwrap();
                let headings = text.lines().filter(|line| line.starts_with('#'));
                assert!(
                    headings.map(anchor).any(|anchor| anchor == heading),
                    "{place}"
                );
            }
        }
    }
}

/// What a heading is linked by.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
