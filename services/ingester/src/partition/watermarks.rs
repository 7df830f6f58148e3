//! The highest offset of each source that may be in the tables.

use std::collections::HashMap;

/// Watermarks by source. Records of one source come together, so the last one is looked at first.
#[derive(Debug, Default)]
pub(super) struct Watermarks {
    sources: Vec<(String, i64)>,
    by_name: HashMap<String, usize>,
    last: usize,
}

impl Watermarks {
    /// Raises the watermark of a source to an offset, and says whether the offset stands at or below it.
    pub(super) fn raise(&mut self, source: &str, offset: i64) -> bool {
        let last = self.sources.get(self.last);
        if last.is_none_or(|(name, _)| name != source) {
            self.last = match self.by_name.get(source) {
                Some(index) => *index,
                None => return self.add(source.to_owned(), offset),
            };
        }
        let (_, watermark) = &mut self.sources[self.last];
        let revisit = offset <= *watermark;
        *watermark = offset.max(*watermark);
        revisit
    }

    fn add(&mut self, source: String, offset: i64) -> bool {
        self.last = self.sources.len();
        self.by_name.insert(source.clone(), self.last);
        self.sources.push((source, offset));
        false
    }
}

impl From<HashMap<String, i64>> for Watermarks {
    fn from(known: HashMap<String, i64>) -> Self {
        let mut watermarks = Self::default();
        for (source, offset) in known {
            watermarks.add(source, offset);
        }
        watermarks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_a_watermark_of_its_own() {
        let mut watermarks = Watermarks::from(HashMap::from([("a".to_owned(), 5)]));
        assert!(watermarks.raise("a", 5) && watermarks.raise("a", 0));
        assert!(!watermarks.raise("b", 0), "never seen");
        assert!(!watermarks.raise("a", 7));
        assert!(watermarks.raise("b", 0) && watermarks.raise("a", 6));
        assert!(!watermarks.raise("b", 1) && !watermarks.raise("a", 8));
    }
}
