//! Who owns which block of the cache: a pool with reference counts, and a table of blocks per sequence.
//! Apart from the numbers themselves (`KvCache`), so that scheduling can be tested without a tensor.

use super::prefix::PrefixTree;
use crate::error::{NnError, Result};

/// Blocks that are free, counted, or kept for whoever comes with the same tokens; every block is one of the three.
#[derive(Debug)]
pub struct BlockPool {
    pub(super) block_size: usize,
    /// Owners of each block.
    pub(super) owners: Vec<u32>,
    free: Vec<u32>,
    /// What the blocks hold; `None` where prefixes are not to be reused.
    pub(super) prefixes: Option<PrefixTree>,
    evicted: u64,
}

/// The blocks of one sequence, in order, and how many tokens it holds.
///
/// Not `Clone`: [`BlockPool::fork`] is the only way to a second owner, and [`BlockPool::free`] consumes it, so that nothing
/// is given back twice. One that is dropped instead keeps its blocks from everyone until the pool goes.
#[derive(Debug, Default)]
#[must_use = "a table that is dropped keeps its blocks: give it to BlockPool::free"]
pub struct BlockTable {
    pub(super) blocks: Vec<u32>,
    pub(super) len: usize,
    /// Blocks, from the first on, that others can find.
    pub(super) published: usize,
    pub(super) salt: u64,
}

/// Blocks to be copied, as (from, to), before anything is written. A block is shared until one of its owners appends to it.
pub type BlockCopies = Vec<(u32, u32)>;

/// Where appended tokens go.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Slot of each token: block · block_size + offset.
    pub slots: Vec<u32>,
    /// Copies to be made with [`KvCache::copy_blocks`](super::KvCache::copy_blocks) before the slots are written.
    pub copies: BlockCopies,
}

impl BlockTable {
    /// A sequence without tokens.
    pub fn new() -> Self {
        Self::default()
    }

    /// A sequence without tokens whose blocks are only shared with sequences of the same salt: what else than the tokens
    /// decides about keys and values, such as an adapter.
    pub fn salted(salt: u64) -> Self {
        Self {
            salt,
            ..Self::default()
        }
    }

    /// Its blocks, in order; the last ones may be reserved and empty.
    pub fn blocks(&self) -> &[u32] {
        &self.blocks
    }

    /// Tokens in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl BlockPool {
    /// A pool of `blocks` free blocks for `block_size` tokens each.
    ///
    /// # Errors
    /// [`NnError::Input`] when `block_size` is zero, or a slot's number would not fit 32 bits.
    pub fn new(blocks: usize, block_size: usize) -> Result<Self> {
        let slots = blocks.checked_mul(block_size);
        if block_size == 0 || slots.is_none_or(|slots| u32::try_from(slots).is_err()) {
            return Err(NnError::Input {
                what: "key-value cache",
                reason: format!(
                    "{blocks} blocks of {block_size} tokens; both fit 32 bits, as does their product, and a block \
                     holds at least one token"
                ),
            });
        }
        Ok(Self {
            block_size,
            owners: vec![0; blocks],
            // Popped from the end: block 0 first.
            free: (0..blocks as u32).rev().collect(),
            prefixes: None,
            evicted: 0,
        })
    }

    /// The same pool, which keeps full blocks that are [published](Self::publish) until their room is needed.
    pub fn keeping_prefixes(self) -> Self {
        Self {
            prefixes: Some(PrefixTree::new(self.owners.len())),
            ..self
        }
    }

    /// Tokens in a block.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// All blocks, free or not.
    pub fn blocks(&self) -> usize {
        self.owners.len()
    }

    /// Blocks that nobody owns, those that are kept for reuse among them: they are given away when they are needed.
    pub fn free_blocks(&self) -> usize {
        self.free.len() + self.kept_blocks()
    }

    /// Blocks that nobody owns and whose contents are kept for reuse.
    pub fn kept_blocks(&self) -> usize {
        self.prefixes.as_ref().map_or(0, PrefixTree::idle_blocks)
    }

    /// Kept blocks that had to go because room was needed, so far.
    pub fn evicted_blocks(&self) -> u64 {
        self.evicted
    }

    /// Blocks that `tokens` need when they start on a fresh one.
    pub fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.block_size)
    }

    /// Blocks that appending `tokens` to `table` would take out of the pool.
    pub fn needed(&self, table: &BlockTable, tokens: usize) -> usize {
        let more = self
            .blocks_for(table.len.saturating_add(tokens))
            .saturating_sub(table.blocks.len());
        more + usize::from(tokens > 0 && self.shared_partial(table).is_some())
    }

    /// Makes room for `tokens` more, so that appending them cannot fail: all of them or none.
    ///
    /// # Errors
    /// [`NnError::CacheFull`]; nothing has changed then.
    pub fn reserve(&mut self, table: &mut BlockTable, tokens: usize) -> Result<BlockCopies> {
        let needed = self.needed(table, tokens);
        let full = NnError::CacheFull {
            needed,
            free: self.free_blocks(),
        };
        if needed > self.free_blocks() {
            return Err(full);
        }
        self.evict_for(needed);
        let Some(keep) = self.free.len().checked_sub(needed) else {
            return Err(full);
        };
        let mut fresh = self.free.split_off(keep);
        for block in &fresh {
            self.set_owners(*block, 1);
        }
        let mut copies = BlockCopies::new();
        if tokens > 0
            && let Some(index) = self.shared_partial(table)
            && let (Some(shared), Some(own)) = (table.blocks.get_mut(index), fresh.pop())
        {
            let old = std::mem::replace(shared, own);
            copies.push((old, own));
            self.release(old);
        }
        table.blocks.extend(fresh.into_iter().rev());
        Ok(copies)
    }

    /// Appends `tokens`: reserves what is missing, and says where each goes.
    ///
    /// # Errors
    /// [`NnError::CacheFull`]; nothing has changed then.
    pub fn append(&mut self, table: &mut BlockTable, tokens: usize) -> Result<Appended> {
        let copies = self.reserve(table, tokens)?;
        let slots = (table.len..table.len + tokens)
            .filter_map(|position| {
                let block = table.blocks.get(position / self.block_size)?;
                Some(block * self.block_size as u32 + (position % self.block_size) as u32)
            })
            .collect();
        table.len += tokens;
        Ok(Appended { slots, copies })
    }

    /// A second owner of the same tokens, without the reserved blocks past them. Costs nothing until one of the two appends
    /// to the block that both end in.
    pub fn fork(&mut self, table: &BlockTable) -> BlockTable {
        let used = self.blocks_for(table.len);
        let blocks: Vec<u32> = table.blocks.iter().take(used).copied().collect();
        for block in &blocks {
            self.own(*block);
        }
        BlockTable {
            blocks,
            len: table.len,
            published: table.published,
            salt: table.salt,
        }
    }

    /// Forgets the tokens from `len` on, and gives back the blocks past it, reserved ones too.
    pub fn truncate(&mut self, table: &mut BlockTable, len: usize) {
        table.len = table.len.min(len);
        table.published = table.published.min(table.len / self.block_size);
        let used = self.blocks_for(table.len).min(table.blocks.len());
        // From the end, here and below: a block is left before those it follows, and so is forgotten before them.
        for block in table.blocks.split_off(used).into_iter().rev() {
            self.release(block);
        }
    }

    /// Gives everything back.
    pub fn free(&mut self, table: BlockTable) {
        for block in table.blocks.into_iter().rev() {
            self.release(block);
        }
    }

    /// The block that the next token goes into, when somebody else has it too, or may find it.
    fn shared_partial(&self, table: &BlockTable) -> Option<usize> {
        let index = table.len / self.block_size;
        let partial = !table.len.is_multiple_of(self.block_size);
        let block = *table.blocks.get(index)?;
        let owners = *self.owners.get(block as usize)?;
        let public = self.prefixes.as_ref().is_some_and(|p| p.holds(block));
        (partial && (owners > 1 || public)).then_some(index)
    }

    pub(super) fn own(&mut self, block: u32) {
        if let Some(owners) = self.owners.get_mut(block as usize) {
            *owners += 1;
        }
        if let Some(prefixes) = &mut self.prefixes {
            prefixes.wake(block);
        }
    }

    pub(super) fn release(&mut self, block: u32) {
        if let Some(owners) = self.owners.get_mut(block as usize) {
            *owners = owners.saturating_sub(1);
            let kept = *owners == 0 && self.prefixes.as_mut().is_some_and(|p| p.rest(block));
            if *owners == 0 && !kept {
                self.free.push(block);
            }
        }
    }

    /// Turns kept blocks into free ones until there are `wanted`, or none is left.
    fn evict_for(&mut self, wanted: usize) {
        while self.free.len() < wanted
            && let Some(prefixes) = &mut self.prefixes
        {
            let freed = prefixes.evict();
            if freed.is_empty() {
                return;
            }
            self.evicted += freed.len() as u64;
            self.free.extend(freed);
        }
    }

    fn set_owners(&mut self, block: u32, count: u32) {
        if let Some(owners) = self.owners.get_mut(block as usize) {
            *owners = count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn appending_to_a_shared_block_copies_it_first() {
        let mut pool = BlockPool::new(4, 4).unwrap();
        let mut a = BlockTable::new();
        assert_eq!(pool.append(&mut a, 6).unwrap().slots, [0, 1, 2, 3, 4, 5]);
        let mut b = pool.fork(&a);
        assert_eq!(pool.free_blocks(), 2);
        let appended = pool.append(&mut b, 1).unwrap();
        assert_eq!((appended.copies, appended.slots), (vec![(1, 2)], vec![10]));
        // The first owner is alone in its block again.
        let appended = pool.append(&mut a, 1).unwrap();
        assert_eq!((appended.copies, appended.slots), (vec![], vec![6]));
        pool.free(a);
        pool.free(b);
        assert_eq!(pool.free_blocks(), 4);
    }

    #[test]
    fn a_full_block_is_shared_for_good() {
        let mut pool = BlockPool::new(4, 4).unwrap();
        let mut a = BlockTable::new();
        pool.append(&mut a, 4).unwrap();
        let mut b = pool.fork(&a);
        assert_eq!(pool.append(&mut b, 1).unwrap().copies, []);
        assert_eq!(pool.append(&mut a, 1).unwrap().copies, []);
        assert_eq!(a.blocks()[0], b.blocks()[0]);
        assert_ne!(a.blocks()[1], b.blocks()[1]);
        pool.free(a);
        pool.free(b);
    }

    #[test]
    fn reserving_is_all_or_nothing() {
        let mut pool = BlockPool::new(3, 4).unwrap();
        let mut a = BlockTable::new();
        pool.append(&mut a, 4).unwrap();
        let error = pool.reserve(&mut a, 9).unwrap_err();
        assert!(matches!(error, NnError::CacheFull { needed: 3, free: 2 }));
        assert_eq!((pool.free_blocks(), a.blocks().len()), (2, 1));
        assert!(pool.reserve(&mut a, 8).unwrap().is_empty());
        assert_eq!((pool.free_blocks(), a.len()), (0, 4));
        assert_eq!(pool.append(&mut a, 8).unwrap().slots.len(), 8);
        pool.truncate(&mut a, 5);
        assert_eq!(pool.free_blocks(), 1);
        pool.free(a);
        assert_eq!(pool.free_blocks(), 3);
        assert!(BlockPool::new(3, 0).is_err());
        assert!(BlockPool::new(1 << 30, 16).is_err());
    }

    proptest! {
        #[test]
        fn no_block_is_lost_or_owned_by_more_than_count(
            block_size in 1usize..5,
            operations in prop::collection::vec((0u8..6, 0usize..8, 0usize..9), 0..120),
        ) {
            let mut pool = BlockPool::new(12, block_size).unwrap();
            let mut tables = vec![BlockTable::new()];
            // What each table should read, and what each slot holds: copies must carry it along.
            let mut expected: Vec<Vec<u32>> = vec![vec![]];
            let mut memory = vec![0u32; 12 * block_size];
            let mut next = 1;
            for (operation, pick, amount) in operations {
                let at = pick % tables.len();
                let mut copies = vec![];
                let mut slots = vec![];
                match operation {
                    0 | 1 => if let Ok(appended) = pool.append(&mut tables[at], amount) {
                        (copies, slots) = (appended.copies, appended.slots);
                    },
                    2 => if let Ok(reserved) = pool.reserve(&mut tables[at], amount) { copies = reserved },
                    3 => {
                        tables.push(pool.fork(&tables[at]));
                        expected.push(expected[at].clone());
                    }
                    4 => {
                        pool.truncate(&mut tables[at], amount);
                        expected[at].truncate(amount);
                    }
                    _ => {
                        pool.free(tables.swap_remove(at));
                        expected.swap_remove(at);
                        if tables.is_empty() {
                            tables.push(BlockTable::new());
                            expected.push(vec![]);
                        }
                    }
                }
                for (from, to) in copies {
                    let from = from as usize * block_size;
                    memory.copy_within(from..from + block_size, to as usize * block_size);
                }
                for slot in slots {
                    memory[slot as usize] = next;
                    expected[at].push(next);
                    next += 1;
                }
                let mut owners = vec![0; 12];
                for (table, expected) in tables.iter().zip(&expected) {
                    prop_assert_eq!(table.len(), expected.len());
                    table.blocks().iter().for_each(|b| owners[*b as usize] += 1);
                    for (position, value) in expected.iter().enumerate() {
                        let block = table.blocks()[position / block_size] as usize;
                        prop_assert_eq!(memory[block * block_size + position % block_size], *value);
                    }
                }
                prop_assert_eq!(&owners, &pool.owners);
                let free = owners.iter().filter(|count| **count == 0).count();
                prop_assert_eq!(free, pool.free_blocks());
            }
        }
    }
}
