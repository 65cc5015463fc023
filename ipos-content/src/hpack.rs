//! The first field block of a connection (HPACK, RFC 7541).
//!
//! Nothing is copied out of the tables: a field is a pair of places, in the static table or in the text that was decoded.
//! So a block of `n` bytes never takes more than 8/5 `n` bytes of text and [`FIELDS_MAX`] fields, however it refers
//! to the table.

use alloc::vec::Vec;
use core::ops::Range;

use crate::Unreadable;
use crate::request::FIELDS_MAX;

mod huffman;
mod static_table;

use static_table::STATIC_TABLE;

/// Size of the dynamic table before the server allows more (RFC 9113 §6.5.2).
const TABLE_MAX: usize = 4096;
/// What an entry takes besides its name and value (RFC 7541 §4.1).
const ENTRY_OVERHEAD: usize = 32;
/// Most bits of an integer behind its prefix; more than any length here.
const INTEGER_BITS: u32 = 28;

/// The fields of a block, in their order.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    text: Vec<u8>,
    fields: Vec<Field>,
}

#[derive(Clone, Debug)]
struct Field {
    name: Text,
    value: Text,
}

#[derive(Clone, Debug)]
enum Text {
    Static(&'static [u8]),
    /// In the decoded text.
    Decoded(Range<usize>),
}

impl Fields {
    /// Decodes a whole block that is the connection's first.
    pub(crate) fn decode(mut block: &[u8]) -> Result<Fields, Unreadable> {
        let mut fields = Fields::default();
        let mut table = Table::new();
        while let Some(&first) = block.first() {
            if let 0x20..=0x3F = first {
                // Only before the fields (RFC 7541 §4.2).
                let size = integer(&mut block, 5)?;
                if !fields.fields.is_empty() || size > TABLE_MAX {
                    return Err(Unreadable);
                }
                table.resize(size);
                continue;
            }
            let field = match first {
                0x80.. => table.get(integer(&mut block, 7)?)?,
                0x40..=0x7F => {
                    let field = fields.literal(&mut block, 6, &table)?;
                    table.insert(field.clone());
                    field
                }
                _ => fields.literal(&mut block, 4, &table)?,
            };
            if fields.fields.len() == FIELDS_MAX {
                return Err(Unreadable);
            }
            fields.fields.push(field);
        }
        Ok(fields)
    }

    /// The values of the fields called `name`.
    pub(crate) fn values<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let named = self
            .fields
            .iter()
            .filter(move |field| self.text(&field.name) == name);
        named.map(|field| self.text(&field.value))
    }

    fn text<'a>(&'a self, text: &'a Text) -> &'a [u8] {
        match text {
            Text::Static(text) => text,
            Text::Decoded(range) => self.text.get(range.clone()).unwrap_or_default(),
        }
    }

    /// A field whose value, at least, is in the block (RFC 7541 §6.2).
    fn literal(
        &mut self,
        block: &mut &[u8],
        prefix: u32,
        table: &Table,
    ) -> Result<Field, Unreadable> {
        let name = match integer(block, prefix)? {
            0 => self.string(block)?,
            index => table.get(index)?.name,
        };
        let value = self.string(block)?;
        Ok(Field { name, value })
    }

    /// RFC 7541 §5.2.
    fn string(&mut self, block: &mut &[u8]) -> Result<Text, Unreadable> {
        let is_coded = block.first().is_some_and(|first| first & 0x80 != 0);
        let len = integer(block, 7)?;
        let (string, rest) = block.split_at_checked(len).ok_or(Unreadable)?;
        *block = rest;
        let start = self.text.len();
        match is_coded {
            true => huffman::decode(string, &mut self.text)?,
            false => self.text.extend_from_slice(string),
        }
        Ok(Text::Decoded(start..self.text.len()))
    }
}

/// An integer that begins in the lowest `prefix` bits of the first byte (RFC 7541 §5.1).
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, Unreadable> {
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(next(block)?) & mask;
    if value < mask {
        return Ok(value);
    }
    for shift in (0..INTEGER_BITS).step_by(7) {
        let byte = next(block)?;
        value += usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Unreadable)
}

fn next(block: &mut &[u8]) -> Result<u8, Unreadable> {
    let (&byte, rest) = block.split_first().ok_or(Unreadable)?;
    *block = rest;
    Ok(byte)
}

/// The static table, and behind it the dynamic one (RFC 7541 §2.3).
struct Table {
    /// All that was ever inserted; the newest last.
    inserted: Vec<Field>,
    /// How many of these are in the table no more.
    evicted: usize,
    size: usize,
    size_max: usize,
}

impl Table {
    fn new() -> Table {
        Table {
            inserted: Vec::new(),
            evicted: 0,
            size: 0,
            size_max: TABLE_MAX,
        }
    }

    fn get(&self, index: usize) -> Result<Field, Unreadable> {
        let index = index.checked_sub(1).ok_or(Unreadable)?;
        if let Some(&(name, value)) = STATIC_TABLE.get(index) {
            return Ok(Field {
                name: Text::Static(name),
                value: Text::Static(value),
            });
        }
        let live = self.inserted.get(self.evicted..).unwrap_or_default();
        let newest_first = live.iter().rev().nth(index - STATIC_TABLE.len());
        newest_first.cloned().ok_or(Unreadable)
    }

    fn insert(&mut self, field: Field) {
        self.size += field.size();
        self.inserted.push(field);
        self.evict();
    }

    fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict();
    }

    /// An entry that is larger than the table empties it (RFC 7541 §4.4).
    fn evict(&mut self) {
        while self.size > self.size_max
            && let Some(oldest) = self.inserted.get(self.evicted)
        {
            self.size -= oldest.size();
            self.evicted += 1;
        }
    }
}

impl Field {
    fn size(&self) -> usize {
        self.name.len() + self.value.len() + ENTRY_OVERHEAD
    }
}

impl Text {
    fn len(&self) -> usize {
        match self {
            Text::Static(text) => text.len(),
            Text::Decoded(range) => range.len(),
        }
    }
}

#[cfg(test)]
mod tests;
