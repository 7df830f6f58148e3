//! The memory for rows that all partitions share.
//!
//! The larger a block, the less the server has to do for each row of it. So a batch may grow while there is
//! memory, whoever uses it: when most of it is used, the partition that holds most publishes, and the others
//! go on meanwhile. A batch so becomes about twice as large as it would with an equal share for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Of the memory, so much may be held by partitions that collect; the rest is for those that publish.
const COLLECTING: (usize, usize) = (2, 3);

/// The memory, and who holds how much of it.
#[derive(Debug, Default)]
pub struct Memory {
    bytes: usize,
    held: Mutex<BTreeMap<i32, Held>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Held {
    bytes: usize,
    publishing: bool,
}

/// What a partition should do, by how much it and the others hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Take more records.
    Collect,
    /// Publish what was collected.
    Publish,
    /// Take nothing until others have published.
    Wait,
}

impl Memory {
    /// Memory of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self {
            bytes,
            held: Mutex::default(),
        }
    }

    /// The share of a partition, until it is dropped.
    pub fn share(self: &Arc<Self>, partition: i32) -> Share {
        self.with(|held| held.insert(partition, Held::default()));
        Share {
            memory: self.clone(),
            partition,
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<i32, Held>) -> T) -> T {
        look(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What one partition holds of the [`Memory`].
#[derive(Debug)]
pub struct Share {
    memory: Arc<Memory>,
    partition: i32,
}

impl Share {
    /// Says that the partition collects and holds so many bytes by now.
    pub fn collecting(&self, bytes: usize) -> Advice {
        let limit = self.memory.bytes;
        self.memory.with(|held| {
            let publishing = false;
            held.insert(self.partition, Held { bytes, publishing });
            let all: usize = held.values().map(|held| held.bytes).sum();
            let collecting = held.iter().filter(|(_, held)| !held.publishing);
            let collected: usize = collecting.clone().map(|(_, held)| held.bytes).sum();
            let most = collecting.max_by_key(|(_, held)| held.bytes);
            let (part, whole) = COLLECTING;
            if bytes > 0
                && collected >= limit / whole * part
                && most.is_some_and(|(partition, _)| *partition == self.partition)
            {
                Advice::Publish
            } else if all >= limit {
                Advice::Wait
            } else {
                Advice::Collect
            }
        })
    }

    /// Says that the partition publishes what it holds.
    pub fn publishing(&self) {
        self.memory
            .with(|held| held.entry(self.partition).or_default().publishing = true);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.with(|held| held.remove(&self.partition));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares<const N: usize>(bytes: usize) -> [Share; N] {
        let memory = Arc::new(Memory::new(bytes));
        std::array::from_fn(|partition| memory.share(partition as i32))
    }

    #[test]
    fn one_partition_may_use_most_of_it() {
        let [one] = shares(300);
        assert_eq!(one.collecting(199), Advice::Collect);
        assert_eq!(one.collecting(200), Advice::Publish);
    }

    #[test]
    fn who_holds_most_publishes_and_the_others_go_on() {
        let [a, b, c] = shares(300);
        assert_eq!(a.collecting(50), Advice::Collect);
        assert_eq!(b.collecting(90), Advice::Collect);
        assert_eq!(c.collecting(70), Advice::Collect);
        assert_eq!(b.collecting(91), Advice::Publish);
        b.publishing();
        assert_eq!(c.collecting(90), Advice::Collect, "{c:?}");
        assert_eq!(a.collecting(110), Advice::Publish, "{a:?}");
        b.publishing();
        a.publishing();
        assert_eq!(c.collecting(99), Advice::Wait);
        drop(b);
        assert_eq!(c.collecting(99), Advice::Collect, "{c:?}");
    }

    #[test]
    fn of_equals_only_one_publishes_and_none_waits_for_ever() {
        let [a, b] = shares(200);
        let said = [a.collecting(100), b.collecting(100), a.collecting(100)];
        assert_eq!(said[1..], [Advice::Publish, Advice::Wait]);
        b.publishing();
        assert_eq!(a.collecting(100), Advice::Wait);
        assert_eq!(b.collecting(0), Advice::Collect);
        assert_eq!(a.collecting(140), Advice::Publish);
    }

    #[test]
    fn nothing_is_not_published() {
        let [a] = shares(0);
        assert_eq!(a.collecting(0), Advice::Wait);
        assert_eq!(a.collecting(1), Advice::Publish);
    }
}
