//! A column of strings that repeat: each different one once, and an index a row. ClickHouse takes such
//! a column as `LowCardinality` as it is, and need not look up its strings row by row.
//!
//! Layout in the Native format (ClickHouse's `SerializationLowCardinality`): the version of the keys'
//! serialization, the type of the indexes with flags, the number of keys and the keys, the number of
//! rows and their indexes. In a nullable column key 0 stands for null.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use super::column::{Column, Pieces, varint};
use super::indexes::Indexes;

/// `SharedDictionariesWithAdditionalKeys`, the only version there is.
const KEYS_VERSION: u64 = 1;
/// The block brings keys of its own, and none from elsewhere are meant.
const HAS_ADDITIONAL_KEYS: u64 = 1 << 9;
const NEED_UPDATE_DICTIONARY: u64 = 1 << 10;

/// A dictionary-encoded column.
#[derive(Debug)]
pub struct Dictionary {
    nullable: bool,
    /// The keys as they are sent: each with its length before it.
    keys: Vec<u8>,
    /// Where each key's text is in `keys`.
    texts: Vec<(u32, u32)>,
    by_text: HashTable<u32>,
    hasher: RandomState,
    indexes: Indexes,
}

impl Dictionary {
    /// An empty column; `nullable` if rows may have no value.
    pub fn new(nullable: bool) -> Self {
        let mut dictionary = Self {
            nullable,
            keys: Vec::new(),
            texts: Vec::new(),
            by_text: HashTable::new(),
            hasher: RandomState::default(),
            indexes: Indexes::default(),
        };
        dictionary.forget_keys();
        dictionary
    }

    fn forget_keys(&mut self) {
        self.keys.clear();
        self.texts.clear();
        self.by_text.clear();
        if self.nullable {
            // Key 0 has a place and no text.
            self.keys.push(0);
            self.texts.push((1, 0));
        }
    }

    /// Different values, null among them if the column is nullable.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Bytes of all keys.
    pub fn key_bytes(&self) -> usize {
        self.keys.len()
    }

    /// Bytes that a row's index takes.
    #[inline]
    pub fn row_bytes(&self) -> usize {
        self.indexes.row_bytes()
    }

    /// The value with an index.
    pub fn text(&self, index: u32) -> &str {
        let (start, length) = self.texts[index as usize];
        let bytes = &self.keys[start as usize..(start + length) as usize];
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// The index that a row has.
    pub fn index(&self, row: usize) -> u32 {
        self.indexes.at(row)
    }

    /// Appends a row without a value.
    pub fn push_null(&mut self) {
        debug_assert!(self.nullable);
        self.indexes.push(0);
    }

    /// Appends a row that probably has the value of `guess`, and gives the index that it has.
    #[inline]
    pub fn push(&mut self, text: &str, guess: u32) -> u32 {
        let index = match self.texts.get(guess as usize) {
            Some(&(start, length))
                if !self.is_null(guess)
                    && self.keys[start as usize..(start + length) as usize] == *text.as_bytes() =>
            {
                guess
            }
            _ => self.find_or_add(text),
        };
        self.indexes.push(index);
        index
    }

    fn is_null(&self, index: u32) -> bool {
        self.nullable && index == 0
    }

    fn find_or_add(&mut self, text: &str) -> u32 {
        let Self {
            keys,
            texts,
            by_text,
            hasher,
            ..
        } = self;
        let text = text.as_bytes();
        let of = |keys: &[u8], texts: &[(u32, u32)], index: u32| {
            let (start, length) = texts[index as usize];
            hasher.hash_one(&keys[start as usize..(start + length) as usize])
        };
        let is_it = |index: &u32| {
            let (start, length) = texts[*index as usize];
            keys[start as usize..(start + length) as usize] == *text
        };
        let hash = hasher.hash_one(text);
        if let Some(index) = by_text.find(hash, is_it) {
            return *index;
        }
        let index = texts.len() as u32;
        varint(text.len() as u64, keys);
        texts.push((keys.len() as u32, text.len() as u32));
        keys.extend_from_slice(text);
        by_text.insert_unique(hash, index, |index| of(keys, texts, *index));
        index
    }

    /// The rows in the order of their texts, as ClickHouse compares them, and rows of one text in theirs:
    /// at each place stands the row's number. `None` if they are in that order.
    pub fn order(&self) -> Option<Vec<u32>> {
        let mut keys: Vec<u32> = (0..self.texts.len() as u32).collect();
        keys.sort_unstable_by_key(|key| (!self.is_null(*key), self.text(*key).as_bytes()));
        let mut rank = vec![0u32; keys.len()];
        for (place, key) in keys.iter().enumerate() {
            rank[*key as usize] = place as u32;
        }
        let mut before = 0;
        let is_sorted = self.indexes.all(|index| {
            let rank = rank[index as usize];
            std::mem::replace(&mut before, rank) <= rank
        });
        if is_sorted {
            return None;
        }
        // Where the rows of each text begin: what the texts before it have.
        let mut begins = vec![0u32; keys.len()];
        self.indexes.all(|index| {
            begins[rank[index as usize] as usize] += 1;
            true
        });
        let mut total = 0;
        for begin in &mut begins {
            total += std::mem::replace(begin, total);
        }
        let mut order = vec![0u32; self.indexes.len()];
        let mut row = 0;
        self.indexes.all(|index| {
            let place = &mut begins[rank[index as usize] as usize];
            order[*place as usize] = row;
            *place += 1;
            row += 1;
            true
        });
        Some(order)
    }
}

impl Column for Dictionary {
    fn next_chunk(&mut self) {
        self.indexes.next_chunk();
    }

    fn reorder(&mut self, order: &[u32]) {
        self.indexes.reorder(order);
    }

    fn write(&self, chosen: Option<&[usize]>, out: &mut Pieces) {
        let rows = chosen.map_or(self.indexes.len(), <[usize]>::len);
        if rows == 0 {
            return;
        }
        let width = self.row_bytes().trailing_zeros();
        out.word(KEYS_VERSION);
        out.word(HAS_ADDITIONAL_KEYS | NEED_UPDATE_DICTIONARY | u64::from(width));
        out.word(self.len() as u64);
        out.copy(&self.keys);
        out.word(rows as u64);
        self.indexes.write(chosen, out);
    }

    fn clear(&mut self) {
        self.forget_keys();
        self.indexes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn indexes(dictionary: &Dictionary) -> Vec<u32> {
        let rows = 0..dictionary.indexes.len();
        rows.map(|row| dictionary.index(row)).collect()
    }

    fn texts(dictionary: &Dictionary) -> Vec<String> {
        let rows = indexes(dictionary).into_iter();
        rows.map(|index| dictionary.text(index).to_owned())
            .collect()
    }

    #[test]
    fn a_wrong_guess_costs_nothing_but_time_and_null_is_no_empty_text() {
        let mut column = Dictionary::new(true);
        assert_eq!(column.push("a", 7), 1);
        assert_eq!(column.push("b", 1), 2);
        assert_eq!(column.push("a", 2), 1);
        column.push_null();
        assert_eq!(column.push("", 0), 3, "the empty text is not null");
        assert_eq!(indexes(&column), [1, 2, 1, 0, 3]);
        column.clear();
        assert_eq!(column.push("b", 2), 1);
        assert_eq!(texts(&column), ["b"]);
    }

    #[test]
    fn indexes_are_as_wide_as_the_number_of_keys_needs() {
        for (keys, width, bytes) in [(1, 1, 2), (65_536, 1, 2), (65_537, 2, 4)] {
            let mut column = Dictionary::new(false);
            (0..keys).for_each(|n| {
                column.push(&n.to_string(), 0);
            });
            let mut out = Pieces::default();
            column.write(None, &mut out);
            let out = out.finish().concat();
            assert_eq!(out[8], width, "{keys} keys");
            let head = 4 * 8 + column.key_bytes();
            assert_eq!(out.len(), head + keys * bytes);
        }
    }

    proptest! {
        #[test]
        fn rows_are_put_into_the_order_of_their_texts(rows in prop::collection::vec("[a-c\u{e9}]{0,2}", 0..100)) {
            let mut column = Dictionary::new(false);
            for text in &rows {
                column.push(text, 0);
            }
            let mut expected: Vec<u32> = (0..rows.len() as u32).collect();
            expected.sort_by_key(|row| rows[*row as usize].as_bytes());
            match column.order() {
                None => prop_assert!(rows.is_sorted()),
                Some(order) => {
                    prop_assert_eq!(&order, &expected);
                    column.reorder(&order);
                }
            }
            let mut sorted = rows.clone();
            sorted.sort();
            prop_assert_eq!(texts(&column), sorted);
            prop_assert_eq!(column.order(), None);
        }

        #[test]
        fn every_row_keeps_its_text(rows in prop::collection::vec(("[a-c]{0,2}", 0u32..12), 0..200)) {
            let mut column = Dictionary::new(false);
            for (text, guess) in &rows {
                column.push(text, *guess);
            }
            let wanted: Vec<_> = rows.iter().map(|(text, _)| text.clone()).collect();
            prop_assert_eq!(texts(&column), wanted);
            let different: std::collections::HashSet<_> = rows.iter().map(|(text, _)| text).collect();
            prop_assert_eq!(column.len(), different.len());
        }
    }
}
