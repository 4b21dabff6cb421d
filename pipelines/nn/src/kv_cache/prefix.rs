//! Which block holds which tokens: a radix tree of full blocks, so that a sequence finds what another has computed.
//! Apart from `blocks`, which counts owners, because this is about contents. Tokens are compared as they are, never by
//! a hash alone, and every path begins at a salt, so that two models' (or adapters') equal texts do not meet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What follows a block (or begins a salt's sequences): the next block's tokens, and the block that holds them.
type Children = HashMap<Arc<[u32]>, u32>;

/// What stands before a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parent {
    /// Nothing: it is the first of a sequence with this salt.
    Salt(u64),
    /// This block, which is in the tree itself.
    Block(u32),
}

/// A block whose contents are known.
#[derive(Debug)]
struct Node {
    parent: Parent,
    tokens: Arc<[u32]>,
    children: Children,
    /// When its last owner left; `None` while it has one.
    idle_since: Option<u64>,
}

/// The tree, and its blocks without an owner in the order in which they were left.
#[derive(Debug, Default)]
pub(super) struct PrefixTree {
    /// By block.
    nodes: Vec<Option<Node>>,
    roots: HashMap<u64, Children>,
    idle: BTreeMap<u64, u32>,
    clock: u64,
}

impl PrefixTree {
    /// An empty tree over `blocks` blocks; it never holds more nodes than that.
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            nodes: (0..blocks).map(|_| None).collect(),
            ..Self::default()
        }
    }

    /// The block that holds exactly `tokens` after `parent`.
    pub(super) fn child(&self, parent: Parent, tokens: &[u32]) -> Option<u32> {
        let children = match parent {
            Parent::Salt(salt) => self.roots.get(&salt)?,
            Parent::Block(block) => &self.node(block)?.children,
        };
        children.get(tokens).copied()
    }

    /// Puts a block that somebody owns into the tree. `false` when its parent is not there, or the place is taken.
    pub(super) fn insert(&mut self, parent: Parent, tokens: &[u32], block: u32) -> bool {
        if self.holds(block) || self.child(parent, tokens).is_some() {
            return false;
        }
        let tokens: Arc<[u32]> = tokens.into();
        let children = match parent {
            Parent::Salt(salt) => self.roots.entry(salt).or_default(),
            Parent::Block(before) => match self.nodes.get_mut(before as usize) {
                Some(Some(node)) => &mut node.children,
                _ => return false,
            },
        };
        children.insert(Arc::clone(&tokens), block);
        if let Some(place) = self.nodes.get_mut(block as usize) {
            *place = Some(Node {
                parent,
                tokens,
                children: Children::new(),
                idle_since: None,
            });
        }
        true
    }

    pub(super) fn holds(&self, block: u32) -> bool {
        self.node(block).is_some()
    }

    /// The last owner has left. `false` when the contents are not known, so that there is nothing to keep.
    pub(super) fn rest(&mut self, block: u32) -> bool {
        let Some(Some(node)) = self.nodes.get_mut(block as usize) else {
            return false;
        };
        self.clock += 1;
        node.idle_since = Some(self.clock);
        self.idle.insert(self.clock, block);
        true
    }

    /// Somebody owns it again.
    pub(super) fn wake(&mut self, block: u32) {
        if let Some(Some(node)) = self.nodes.get_mut(block as usize)
            && let Some(since) = node.idle_since.take()
        {
            self.idle.remove(&since);
        }
    }

    /// Blocks that are kept and nobody owns.
    pub(super) fn idle_blocks(&self) -> usize {
        self.idle.len()
    }

    /// Forgets the block that was left longest ago, and gives back the blocks that are free by it.
    ///
    /// That is the one block: whoever owns a block owns all before it and leaves it first, so that what follows the
    /// oldest was older still. Anything else that hung on it would be out of reach, and goes too.
    pub(super) fn evict(&mut self) -> Vec<u32> {
        let Some((_, oldest)) = self.idle.pop_first() else {
            return Vec::new();
        };
        self.cut(oldest);
        let mut freed = Vec::new();
        let mut lost = vec![oldest];
        while let Some(block) = lost.pop() {
            let Some(node) = self.nodes.get_mut(block as usize).and_then(Option::take) else {
                continue;
            };
            if let Some(since) = node.idle_since {
                self.idle.remove(&since);
                freed.push(block);
            }
            lost.extend(node.children.into_values());
        }
        freed
    }

    /// Takes a block out of its parent's children.
    fn cut(&mut self, block: u32) {
        let Some(node) = self.node(block) else {
            return;
        };
        let (parent, tokens) = (node.parent, Arc::clone(&node.tokens));
        match parent {
            Parent::Salt(salt) => {
                if let Some(children) = self.roots.get_mut(&salt) {
                    children.remove(&tokens);
                    if children.is_empty() {
                        self.roots.remove(&salt);
                    }
                }
            }
            Parent::Block(before) => {
                if let Some(Some(node)) = self.nodes.get_mut(before as usize) {
                    node.children.remove(&tokens);
                }
            }
        }
    }

    fn node(&self, block: u32) -> Option<&Node> {
        self.nodes.get(block as usize)?.as_ref()
    }

    /// Panics unless every node hangs where it says, and idle blocks are exactly those with a time.
    #[cfg(test)]
    pub(super) fn check(&self, owners: &[u32]) {
        let mut linked = 0;
        for (block, node) in (0u32..).zip(&self.nodes) {
            let Some(node) = node else { continue };
            linked += 1;
            assert_eq!(self.child(node.parent, &node.tokens), Some(block));
            assert_eq!(node.idle_since.is_some(), owners[block as usize] == 0);
            if let (Some(since), Parent::Block(before)) = (node.idle_since, node.parent) {
                let left = self.node(before).unwrap().idle_since;
                assert!(
                    left.is_none_or(|left| left > since),
                    "a parent would go before its child"
                );
            }
        }
        let reachable: usize = self.roots.values().map(HashMap::len).sum::<usize>()
            + self
                .nodes
                .iter()
                .flatten()
                .map(|node| node.children.len())
                .sum::<usize>();
        assert_eq!(linked, reachable);
        let idle = self
            .nodes
            .iter()
            .flatten()
            .filter(|node| node.idle_since.is_some())
            .count();
        assert_eq!(idle, self.idle.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_followed_by_its_own_tokens_and_salt_only() {
        let mut tree = PrefixTree::new(4);
        assert!(tree.insert(Parent::Salt(0), &[1, 2], 0));
        assert!(tree.insert(Parent::Block(0), &[3, 4], 1));
        assert_eq!(tree.child(Parent::Salt(0), &[1, 2]), Some(0));
        assert_eq!(tree.child(Parent::Block(0), &[3, 4]), Some(1));
        assert_eq!(tree.child(Parent::Salt(0), &[3, 4]), None);
        assert_eq!(tree.child(Parent::Salt(7), &[1, 2]), None);
        assert!(
            !tree.insert(Parent::Salt(0), &[1, 2], 2),
            "one block for the same tokens"
        );
        assert!(
            !tree.insert(Parent::Block(3), &[1, 2], 2),
            "nothing hangs on an unknown block"
        );
    }

    #[test]
    fn what_was_left_first_goes_first_and_what_is_owned_stays() {
        let mut tree = PrefixTree::new(4);
        tree.insert(Parent::Salt(0), &[1], 0);
        tree.insert(Parent::Salt(0), &[2], 1);
        tree.insert(Parent::Salt(0), &[3], 2);
        assert!(tree.rest(1) && tree.rest(0));
        assert!(!tree.rest(3), "its contents are not known");
        tree.wake(1);
        assert_eq!(tree.evict(), [0]);
        assert_eq!(tree.evict(), [0u32; 0]);
        assert_eq!(tree.child(Parent::Salt(0), &[1]), None);
        tree.check(&[0, 1, 1, 0]);
    }

    #[test]
    fn nothing_is_left_hanging_on_a_block_that_is_gone() {
        let mut tree = PrefixTree::new(3);
        tree.insert(Parent::Salt(0), &[1], 0);
        tree.insert(Parent::Block(0), &[2], 1);
        tree.insert(Parent::Block(1), &[3], 2);
        // Against the order in which owners leave, to see that even then no stale path is left.
        assert!(tree.rest(0) && tree.rest(2));
        let mut freed = tree.evict();
        freed.sort_unstable();
        assert_eq!(freed, [0, 2]);
        assert!(!tree.holds(1), "out of reach, though owned");
        assert_eq!(tree.idle_blocks(), 0);
        assert!(tree.roots.is_empty());
    }
}
