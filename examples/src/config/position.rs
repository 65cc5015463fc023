//! Where the keys of a TOML document are.

use std::collections::HashMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// The key called `name` in the table `prefix`; an empty prefix is the file.
pub(super) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}.{name}")
    }
}

/// Keys as `listen[1].address`, with the lines they are on.
#[derive(Debug, Default)]
pub(super) struct Positions {
    /// Byte offsets at which the lines start.
    lines: Vec<usize>,
    /// Key, first and last byte of its name or value, in the order of the file.
    keys: Vec<(String, usize, usize)>,
    /// Key to the offset of its value.
    values: HashMap<String, usize>,
}

impl Positions {
    /// Looks through `text`; of what is not TOML only the lines are known.
    pub(super) fn new(text: &str) -> Positions {
        let line_starts = text.match_indices('\n').map(|(offset, _)| offset + 1);
        let mut positions = Positions {
            lines: std::iter::once(0).chain(line_starts).collect(),
            ..Positions::default()
        };
        let (table, _errors) = DeTable::parse_recoverable(text);
        positions.walk_table("", table.get_ref());
        positions
    }

    /// The line of a byte offset, from 1.
    pub(super) fn line_at(&self, offset: usize) -> usize {
        self.lines.partition_point(|&start| start <= offset)
    }

    /// The line of a key, or else of the nearest key that holds it.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(&offset) = self.values.get(key) {
                return Some(self.line_at(offset));
            }
            key = key.get(..key.rfind(['.', '['])?)?;
        }
    }

    /// The innermost key whose name or value holds all of `span`; empty if there is none, or nothing to hold: the
    /// file as a whole has no span.
    pub(super) fn key_at(&self, span: &Range<usize>) -> String {
        if span.is_empty() {
            return String::new();
        }
        // Of an array with one table both are as long: the inner one comes behind the outer one.
        let at = self
            .keys
            .iter()
            .rev()
            .filter(|(_, first, last)| *first <= span.start && span.end <= *last);
        at.min_by_key(|(_, first, last)| last - first)
            .map(|(key, _, _)| key.clone())
            .unwrap_or_default()
    }

    fn walk_table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = join(prefix, name.get_ref());
            self.keys
                .push((key.clone(), name.span().start, name.span().end));
            self.walk_value(key, value.span(), value.get_ref());
        }
    }

    fn walk_value(&mut self, key: String, span: Range<usize>, value: &DeValue<'_>) {
        self.keys.push((key.clone(), span.start, span.end));
        match value {
            DeValue::Table(table) => self.walk_table(&key, table),
            DeValue::Array(array) => {
                for (index, item) in array.iter().enumerate() {
                    self.walk_value(format!("{key}[{index}]"), item.span(), item.get_ref());
                }
            }
            _ => {}
        }
        self.values.insert(key, span.start);
    }
}
