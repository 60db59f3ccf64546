//! Can every node be reached?
//!
//! Invariant: at the end there is a path at the base from the entry to every node. Repairs only add edges, or replace ones
//! that no path found so far needs.

use std::sync::atomic::{AtomicBool, Ordering};

use super::layout::NO_NODE;
use super::level::{Finder, Level, Space};

/// The nodes reached from the entry, and the edges that reached them.
struct Tree {
    parents: Vec<u32>,
    queue: Vec<u32>,
}

/// Links what cannot be reached at the base to the nearest that can; `None` where it was cancelled.
pub(super) fn connect(space: &Space, levels: &mut [Level], ef: usize, cancelled: &AtomicBool) -> Option<()> {
    let Some((base, upper)) = levels.split_first_mut() else { return Some(()) };
    let count = base.len();
    let mut tree = Tree { parents: vec![NO_NODE; count], queue: Vec::new() };
    if count > 0 {
        tree.parents[0] = 0;
        tree.queue.push(0);
        tree.spread(base);
    }
    let mut finder = Finder::new(space);
    for node in 0..count as u32 {
        if cancelled.load(Ordering::Relaxed) {
            return None;
        }
        if tree.reached(node) {
            continue;
        }
        finder.find(upper, base, node, ef);
        let near = finder.found().filter(|&near| tree.reached(near));
        let host = near.chain(0..count as u32).find_map(|host| Some((host, tree.place(base, host)?)));
        // A leaf of the tree needs none of its edges, so there is a host.
        let (host, place) = host?;
        base.row_mut(host)[place] = node;
        tree.parents[node as usize] = host;
        tree.queue.push(node);
        tree.spread(base);
    }
    Some(())
}

impl Tree {
    fn reached(&self, node: u32) -> bool {
        self.parents[node as usize] != NO_NODE
    }

    /// Where a node that is reached can take one more edge.
    fn place(&self, base: &Level, host: u32) -> Option<usize> {
        let needless = |&node: &u32| node == NO_NODE || self.parents[node as usize] != host;
        let row = base.row(host);
        let free = row.iter().position(|&node| node == NO_NODE);
        free.or_else(|| row.iter().rposition(needless)).filter(|_| self.reached(host))
    }

    fn spread(&mut self, base: &Level) {
        while let Some(from) = self.queue.pop() {
            for node in base.neighbours(from) {
                if !self.reached(node) {
                    self.parents[node as usize] = from;
                    self.queue.push(node);
                }
            }
        }
    }
}
