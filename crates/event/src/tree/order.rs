//! From what was read to the order in which it is shown.

use std::collections::BTreeMap;

use super::{DEPTH_MAX, Grown, Node, ROOT, Sort, Tree};
use crate::text::plural;

impl Tree {
    /// Removes what was not asked for, puts together what the agent ran for itself, and brings
    /// parents before what came of them.
    pub fn finish(mut self) -> Grown {
        if self.nodes.is_empty() {
            return Grown {
                nodes: self.nodes,
                more: self.more,
            };
        }
        self.keep_parents_of_wanted();
        if !self.calls.is_empty() {
            self.gather_own();
        }
        let mut below: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate().skip(1) {
            if node.wanted
                && let Some(below) = below.get_mut(node.parent)
            {
                below.push(index);
            }
        }
        for list in &mut below {
            list.sort_by_key(|index| self.nodes.get(*index).map(|node| node.seq));
        }
        let mut nodes = Vec::with_capacity(self.nodes.len());
        let mut stack = vec![(ROOT, 0)];
        while let Some((index, depth)) = stack.pop() {
            let Some(node) = self.nodes.get(index) else {
                continue;
            };
            nodes.push(Node {
                depth,
                ..node.clone()
            });
            let next = (depth + 1).min(DEPTH_MAX);
            let list = below.get(index).into_iter().flatten().rev();
            stack.extend(list.map(|index| (*index, next)));
        }
        Grown {
            nodes,
            more: self.more,
        }
    }

    fn keep_parents_of_wanted(&mut self) {
        for index in 0..self.nodes.len() {
            if !self.nodes.get(index).is_some_and(|node| node.wanted) {
                continue;
            }
            let mut at = index;
            while let Some(parent) = self.nodes.get(at).map(|node| node.parent)
                && let Some(node) = self.nodes.get_mut(parent)
                && !node.wanted
            {
                node.wanted = true;
                at = parent;
            }
        }
    }

    /// Puts commands of which nothing came and that no call is known for below one node.
    fn gather_own(&mut self) {
        let mut is_quiet: Vec<bool> = self
            .nodes
            .iter()
            .map(|node| node.sort == Sort::Process)
            .collect();
        let mut processes = vec![1_usize; self.nodes.len()];
        // What a process did and started comes after it.
        for index in (1..self.nodes.len()).rev() {
            let Some(node) = self.nodes.get(index).filter(|node| node.wanted) else {
                continue;
            };
            let (parent, own) = (node.parent, processes.get(index).copied().unwrap_or(0));
            let quiet = is_quiet.get(index).copied().unwrap_or(false);
            if let Some(is_quiet) = is_quiet.get_mut(parent) {
                *is_quiet &= quiet;
            }
            if let Some(sum) = processes.get_mut(parent) {
                *sum += own;
            }
        }
        let is_outside = |sort: Sort| matches!(sort, Sort::Session | Sort::Prompt);
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate().skip(1) {
            let parent = self.nodes.get(node.parent).map(|node| node.sort);
            if node.wanted && is_quiet.get(index) == Some(&true) && parent.is_some_and(is_outside) {
                groups.entry(node.parent).or_default().push(index);
            }
        }
        for (parent, list) in groups {
            let all = list.iter().filter_map(|index| processes.get(*index)).sum();
            let Some(first) = list.first().and_then(|first| self.nodes.get(*first)) else {
                continue;
            };
            let text = format!(
                "{}'s own: {} in {}",
                self.life.agent,
                plural(count(all), "process", "processes"),
                plural(count(list.len()), "command", "commands"),
            );
            let group = Node {
                sort: Sort::Own,
                text,
                parent,
                ..first.clone()
            };
            self.nodes.push(group);
            let place = self.nodes.len() - 1;
            for index in list {
                if let Some(node) = self.nodes.get_mut(index) {
                    node.parent = place;
                }
            }
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
