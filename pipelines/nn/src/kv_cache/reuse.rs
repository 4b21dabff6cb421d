//! How a sequence takes over blocks that another has computed, and offers its own: `adopt` and `publish` on the pool.
//! Keys and values depend on a token and those before it (and on what the table's salt stands for), so that a block of
//! the same tokens after the same blocks holds the same numbers, bit for bit on the CPU.

use super::blocks::{BlockPool, BlockTable};
use super::prefix::Parent;

impl BlockPool {
    /// Appends blocks that hold the tokens `next`, which follow the table's own: as many as are known, whole blocks
    /// only. Returns how many tokens that were; none where the table does not end with a published block.
    pub fn adopt(&mut self, table: &mut BlockTable, next: &[u32]) -> usize {
        let before = table.len;
        let whole = table.published * self.block_size == table.len;
        if !whole || table.blocks.len() != table.published {
            return 0;
        }
        for tokens in next.chunks_exact(self.block_size) {
            let Some(block) = self.following(table, tokens) else {
                break;
            };
            self.own(block);
            table.blocks.push(block);
            table.published += 1;
            table.len += self.block_size;
        }
        table.len - before
    }

    /// How many of `tokens`, from the first on, stand in blocks that somebody owns now: room that a new sequence of
    /// this salt does not take.
    pub fn owned_prefix(&self, salt: u64, tokens: &[u32]) -> usize {
        let mut parent = Parent::Salt(salt);
        let mut found = 0;
        for tokens in tokens.chunks_exact(self.block_size) {
            let block = self.prefixes.as_ref().and_then(|p| p.child(parent, tokens));
            let Some(block) = block.filter(|block| self.is_owned(*block)) else {
                break;
            };
            parent = Parent::Block(block);
            found += self.block_size;
        }
        found
    }

    /// How many of the table's tokens stand in published blocks.
    pub fn published(&self, table: &BlockTable) -> usize {
        table.published * self.block_size
    }

    /// Whether the table has full blocks that are not published yet.
    pub fn has_unpublished(&self, table: &BlockTable) -> bool {
        self.prefixes.is_some() && table.published < table.len / self.block_size
    }

    /// Lets others find the table's full blocks. `fresh` are its tokens from [`published`](Self::published) on; all of
    /// them must have been written. Where another block holds the same already, the table takes that one and its own is
    /// free again.
    pub fn publish(&mut self, table: &mut BlockTable, fresh: &[u32]) {
        for tokens in fresh.chunks_exact(self.block_size) {
            let index = table.published;
            if index >= table.len / self.block_size {
                return;
            }
            let Some(own) = table.blocks.get(index).copied() else {
                return;
            };
            match self.following(table, tokens) {
                Some(known) if known != own => {
                    self.own(known);
                    if let Some(place) = table.blocks.get_mut(index) {
                        *place = known;
                    }
                    self.release(own);
                }
                Some(_) => {}
                None => {
                    let parent = table.last_published();
                    let inserted = match (&mut self.prefixes, parent) {
                        (Some(prefixes), Some(parent)) => prefixes.insert(parent, tokens, own),
                        _ => false,
                    };
                    if !inserted {
                        return;
                    }
                }
            }
            table.published += 1;
        }
    }

    /// The block with these tokens after the table's published ones.
    fn following(&self, table: &BlockTable, tokens: &[u32]) -> Option<u32> {
        let parent = table.last_published()?;
        self.prefixes.as_ref()?.child(parent, tokens)
    }

    fn is_owned(&self, block: u32) -> bool {
        self.owners
            .get(block as usize)
            .is_some_and(|owners| *owners > 0)
    }
}

impl BlockTable {
    /// What the next published block hangs on.
    fn last_published(&self) -> Option<Parent> {
        match self.published.checked_sub(1) {
            None => Some(Parent::Salt(self.salt)),
            Some(last) => self.blocks.get(last).copied().map(Parent::Block),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hash, Hasher};

    use proptest::prelude::*;

    use super::*;

    fn filled(pool: &mut BlockPool, salt: u64, tokens: &[u32]) -> BlockTable {
        let mut table = BlockTable::salted(salt);
        pool.append(&mut table, tokens.len()).unwrap();
        pool.publish(&mut table, tokens);
        table
    }

    #[test]
    fn full_blocks_outlive_their_sequence_and_are_found_by_the_same_tokens_only() {
        let mut pool = BlockPool::new(6, 2).unwrap().keeping_prefixes();
        let first = filled(&mut pool, 0, &[1, 2, 3, 4, 5]);
        let blocks = first.blocks().to_vec();
        pool.free(first);
        assert_eq!((pool.free_blocks(), pool.kept_blocks()), (6, 2));
        for (salt, tokens, found) in [
            (0, vec![1, 2, 3, 4, 5, 6], 4),
            (0, vec![1, 2, 3, 9], 2),
            (0, vec![1, 2, 3], 2),
            (0, vec![3, 4], 0),
            (1, vec![1, 2, 3, 4], 0),
        ] {
            let mut table = BlockTable::salted(salt);
            assert_eq!(pool.adopt(&mut table, &tokens), found, "{salt} {tokens:?}");
            assert_eq!(table.blocks(), &blocks[..found / 2]);
            pool.free(table);
        }
    }

    #[test]
    fn two_that_computed_the_same_end_with_one_copy() {
        let mut pool = BlockPool::new(6, 2).unwrap().keeping_prefixes();
        let first = filled(&mut pool, 0, &[1, 2, 3, 4]);
        assert_eq!(pool.owned_prefix(0, &[1, 2, 3, 4, 5]), 4);
        let second = filled(&mut pool, 0, &[1, 2, 3, 4]);
        assert_eq!(first.blocks(), second.blocks());
        assert_eq!(pool.free_blocks(), 4);
        pool.free(first);
        pool.free(second);
        assert_eq!(pool.owned_prefix(0, &[1, 2, 3, 4, 5]), 0);
    }

    #[test]
    fn kept_blocks_give_way_the_longest_unused_first() {
        let mut pool = BlockPool::new(4, 2).unwrap().keeping_prefixes();
        let old = filled(&mut pool, 0, &[1, 2, 3, 4]);
        pool.free(old);
        let young = filled(&mut pool, 0, &[5, 6]);
        pool.free(young);
        let mut table = BlockTable::new();
        pool.append(&mut table, 4).unwrap();
        assert_eq!((pool.evicted_blocks(), pool.kept_blocks()), (1, 2));
        let mut found = BlockTable::new();
        assert_eq!(
            pool.adopt(&mut found, &[1, 2, 3, 4]),
            2,
            "the end of the older goes first"
        );
        pool.free(found);
        assert!(
            pool.append(&mut table, 6).is_err(),
            "four blocks are all there are"
        );
        assert_eq!(
            pool.kept_blocks(),
            2,
            "and nothing goes for what cannot be had"
        );
        pool.free(table);
    }

    #[test]
    fn a_published_block_is_never_written_again() {
        let mut pool = BlockPool::new(4, 2).unwrap().keeping_prefixes();
        let mut table = filled(&mut pool, 0, &[1, 2]);
        pool.truncate(&mut table, 1);
        let appended = pool.append(&mut table, 1).unwrap();
        assert_eq!((appended.copies, appended.slots), (vec![(0, 1)], vec![3]));
        let mut found = BlockTable::new();
        assert_eq!(pool.adopt(&mut found, &[1, 2]), 2);
        pool.free(found);
        pool.free(table);
    }

    /// What a slot holds: all that its sequence has had up to there.
    fn contents(salt: u64, tokens: &[u32]) -> u64 {
        let mut hasher = DefaultHasher::new();
        (salt, tokens).hash(&mut hasher);
        hasher.finish()
    }

    proptest! {
        #[test]
        fn every_table_reads_what_its_own_tokens_would_have_written(
            block_size in 1usize..4,
            operations in prop::collection::vec((0u8..8, 0usize..8, prop::collection::vec(0u32..2, 0..9)), 0..150),
        ) {
            let mut pool = BlockPool::new(12, block_size).unwrap().keeping_prefixes();
            let mut tables: Vec<(BlockTable, Vec<u32>)> = vec![];
            let mut memory = vec![0u64; 12 * block_size];
            for (operation, pick, tokens) in operations {
                if tables.is_empty() || operation == 0 {
                    let mut table = BlockTable::salted(pick as u64 % 2);
                    let found = pool.adopt(&mut table, &tokens);
                    tables.push((table, tokens[..found].to_vec()));
                    continue;
                }
                let at = pick % tables.len();
                let (table, said) = &mut tables[at];
                match operation {
                    1..=3 => if let Ok(appended) = pool.append(table, tokens.len()) {
                        for (from, to) in appended.copies {
                            let from = from as usize * block_size;
                            memory.copy_within(from..from + block_size, to as usize * block_size);
                        }
                        for (token, slot) in tokens.iter().zip(appended.slots) {
                            said.push(*token);
                            memory[slot as usize] = contents(table.salt, said);
                        }
                        pool.publish(table, &said[pool.published(table)..]);
                    },
                    4 => {
                        let found = pool.adopt(table, &tokens);
                        said.extend(&tokens[..found]);
                    }
                    5 => {
                        pool.truncate(table, tokens.len());
                        said.truncate(tokens.len());
                    }
                    6 => {
                        let fork = (pool.fork(table), said.clone());
                        tables.push(fork);
                    }
                    _ => pool.free(tables.swap_remove(at).0),
                }
                let mut owners = vec![0; 12];
                for (table, said) in &tables {
                    prop_assert_eq!(table.len(), said.len());
                    table.blocks().iter().for_each(|b| owners[*b as usize] += 1);
                    for position in 0..said.len() {
                        let block = table.blocks()[position / block_size] as usize;
                        let found = memory[block * block_size + position % block_size];
                        prop_assert_eq!(found, contents(table.salt, &said[..=position]));
                    }
                }
                prop_assert_eq!(&owners, &pool.owners);
                let nobodys = owners.iter().filter(|count| **count == 0).count();
                prop_assert_eq!(nobodys, pool.free_blocks());
                pool.prefixes.as_ref().unwrap().check(&owners);
            }
        }
    }
}
