// SPDX-License-Identifier: GPL-2.0-or-later
//! Products of the atomic base as a graph: each shared factor is multiplied once.
//!
//! A term `Re(A₁ A₂ … Aᵣ)` is split into two factors X and Y, and each factor that is itself a product into
//! two smaller ones (Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021), section on recursive evaluation).
//! Terms and factors are the same up to complex conjugation, which is free.

use std::collections::{BinaryHeap, HashMap};

/// A factor: a node of the atomic base or its conjugate. Twice the node, plus one for the conjugate.
pub(crate) type Factor = u32;

/// A node, possibly conjugated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NodeRef {
    node: u32,
    conj: bool,
}

/// An interior node: `a · b`, or `a · conj(b)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interior {
    pub a: u32,
    pub b: u32,
    pub conj: bool,
}

/// All terms that share the factor `node`. Terms `start..mid` are plain products, in terms `mid..end` the other factor is
/// conjugated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub node: u32,
    pub start: u32,
    pub mid: u32,
    pub end: u32,
}

/// The terms of the densities, grouped by one of their two factors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub groups: Vec<Group>,
    /// The other factor of each term.
    pub partner: Vec<u32>,
    /// Coefficients, `[term][density]`.
    pub coef: Vec<f64>,
    /// Of [`Graph::by_y`]: position of each term in [`Graph::by_x`]; empty without functions.
    pub other: Vec<u32>,
}

/// A term: its two factors, whether one of them is conjugated, and its number.
#[derive(Clone, Copy)]
struct Leaf {
    x: u32,
    y: u32,
    conj: bool,
    term: usize,
}

impl Terms {
    /// Groups the terms by factor `x`. Also returns the number of each term, in the order of the groups.
    fn new(mut leaves: Vec<Leaf>, coef: &[f64], nd: usize) -> (Self, Vec<usize>) {
        leaves.sort_unstable_by_key(|l| (l.x, l.conj, l.y, l.term));
        let plain = |group: &[Leaf]| group.iter().filter(|l| !l.conj).count();
        // Groups with equal numbers of terms follow each other, so that the loop lengths are predictable.
        let mut groups: Vec<&[Leaf]> = leaves.chunk_by(|a, b| a.x == b.x).collect();
        groups.sort_by_key(|group| (plain(group), group.len()));
        let (mut terms, mut numbers) = (Terms::default(), Vec::new());
        for group in groups {
            let start = terms.partner.len() as u32;
            let (mid, end) = (start + plain(group) as u32, start + group.len() as u32);
            terms.groups.push(Group { node: group[0].x, start, mid, end });
            for l in group {
                terms.partner.push(l.y);
                terms.coef.extend_from_slice(&coef[l.term * nd..(l.term + 1) * nd]);
                numbers.push(l.term);
            }
        }
        (terms, numbers)
    }
}

/// The compiled products of one element, of which every index is in range.
///
/// The kernels read nodes and terms through unchecked pointers. [`Graph::new`], the only constructor, checks all indices
/// once; afterwards there is shared access only.
#[derive(Debug)]
pub(crate) struct Graph {
    parts: GraphParts,
}

/// What a [`Graph`] is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct GraphParts {
    /// Number of nodes of the atomic base; they come first.
    pub base: usize,
    /// Number of densities.
    pub densities: usize,
    /// Products that are factors of others; each comes after its own factors.
    pub interior: Vec<Interior>,
    /// Terms grouped by their first factor, for the densities.
    pub by_x: Terms,
    /// The same terms grouped by their second factor, for its adjoint.
    pub by_y: Terms,
    /// Number of basis functions.
    pub functions: usize,
    /// All basis functions, in blocks of functions of the same terms.
    pub blocks: Vec<Block>,
    /// The terms of all blocks, in the order of `blocks`.
    pub parts: Vec<Part>,
    /// The coefficients of all blocks: for each term one per function.
    pub part_coefs: Vec<f64>,
    /// The functions that each term is part of, in the order of `by_x`: the ranges of `shares`; empty without functions.
    pub share_starts: Vec<u32>,
    pub shares: Vec<Share>,
}

impl Graph {
    /// Checks every index that the kernels trust.
    ///
    /// # Errors
    /// A description of the first index that is out of range.
    pub(crate) fn new(parts: GraphParts) -> Result<Self, String> {
        let nodes = parts.base + parts.interior.len();
        for (k, i) in parts.interior.iter().enumerate() {
            if i.a.max(i.b) as usize >= parts.base + k {
                return Err(format!("interior node {k} is computed before its factors {} and {}", i.a, i.b));
            }
        }
        parts.by_x.check("first", nodes, parts.densities)?;
        parts.by_y.check("second", nodes, parts.densities)?;
        if let Some(part) = parts.parts.iter().find(|p| p.x.max(p.y) as usize >= nodes) {
            return Err(format!("a function uses nodes {} and {} of {nodes}", part.x, part.y));
        }
        for block in &parts.blocks {
            if let Some(number) = block.numbers.iter().find(|&&n| n as usize >= parts.functions) {
                return Err(format!("function number {number} of {}", parts.functions));
            }
            check_range("block", (block.start, block.mid, block.end), parts.parts.len())?;
            let coefs = (block.end - block.start) as usize * block.numbers.len();
            if !(1..=BLOCK).contains(&block.numbers.len()) || block.coefs + coefs > parts.part_coefs.len() {
                return Err(format!(
                    "{} functions have the coefficients {} to {} of {}",
                    block.numbers.len(),
                    block.coefs,
                    block.coefs + coefs,
                    parts.part_coefs.len()
                ));
            }
        }
        if !parts.share_starts.is_empty() {
            let (terms, ends) = (parts.by_x.partner.len(), &parts.share_starts);
            if ends.len() != terms + 1 || !ends.is_sorted() || ends[terms] as usize > parts.shares.len() {
                return Err(format!(
                    "the functions of {terms} terms are {} ranges of {}",
                    ends.len(),
                    parts.shares.len()
                ));
            }
            if let Some(share) = parts.shares.iter().find(|s| s.function as usize >= parts.functions) {
                return Err(format!("a term is part of function {} of {}", share.function, parts.functions));
            }
            if parts.by_y.other.len() != parts.by_y.partner.len()
                || parts.by_y.partner.len() != terms
                || parts.by_y.other.iter().any(|&t| t as usize >= terms)
            {
                return Err(format!("the terms by the second factor are not the {terms} by the first"));
            }
        }
        Ok(Graph { parts })
    }

    /// Number of nodes of the atomic base.
    pub(crate) fn base(&self) -> usize {
        self.parts.base
    }

    /// Number of nodes: those of the atomic base, then the interior ones.
    pub(crate) fn nodes(&self) -> usize {
        self.parts.base + self.parts.interior.len()
    }

    /// Number of densities.
    pub(crate) fn densities(&self) -> usize {
        self.parts.densities
    }

    /// Interior nodes, in an order in which they can be computed: the factors of the k-th are below `base() + k`.
    pub(crate) fn interior(&self) -> &[Interior] {
        &self.parts.interior
    }

    /// Terms grouped by their first factor. All nodes are below `nodes()`, all ranges within the terms.
    pub(crate) fn by_x(&self) -> &Terms {
        &self.parts.by_x
    }

    /// The same terms grouped by their second factor.
    pub(crate) fn by_y(&self) -> &Terms {
        &self.parts.by_y
    }

    /// Number of basis functions.
    pub(crate) fn functions(&self) -> usize {
        self.parts.functions
    }

    /// Blocks of one to [`BLOCK`] functions. The numbers of these are below `functions()`, their terms within `parts()`, and their
    /// coefficients within `part_coefs()`.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.parts.blocks
    }

    /// Ranges of [`Self::shares`], one more than there are terms, and in the order of [`Self::by_x`]; empty if the graph was
    /// built without functions. Then [`Terms::other`] of [`Self::by_y`] is not checked.
    pub(crate) fn share_starts(&self) -> &[u32] {
        &self.parts.share_starts
    }

    /// The functions that the terms are part of. Function numbers are below the number of functions.
    pub(crate) fn shares(&self) -> &[Share] {
        &self.parts.shares
    }

    /// The terms of all blocks. All nodes are below `nodes()`.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts.parts
    }

    /// The coefficients of all blocks.
    pub(crate) fn part_coefs(&self) -> &[f64] {
        &self.parts.part_coefs
    }
}

impl Terms {
    /// Checks the indices; `which` factor the terms are grouped by is for the message.
    fn check(&self, which: &str, nodes: usize, densities: usize) -> Result<(), String> {
        if self.coef.len() != self.partner.len() * densities {
            return Err(format!("{} coefficients for {} terms", self.coef.len(), self.partner.len()));
        }
        if let Some(node) = self.partner.iter().find(|&&n| n as usize >= nodes) {
            return Err(format!("a term grouped by its {which} factor uses node {node} of {nodes}"));
        }
        for g in &self.groups {
            if g.node as usize >= nodes {
                return Err(format!("a group by the {which} factor uses node {} of {nodes}", g.node));
            }
            check_range("group", (g.start, g.mid, g.end), self.partner.len())?;
        }
        Ok(())
    }
}

fn check_range(what: &str, (start, mid, end): (u32, u32, u32), length: usize) -> Result<(), String> {
    if start <= mid && mid <= end && end as usize <= length {
        return Ok(());
    }
    Err(format!("a {what} has the range {start}..{mid}..{end} of {length}"))
}

/// Largest number of functions in a block.
pub(crate) const BLOCK: usize = 8;

/// Functions that have the same terms, with coefficients of their own: they differ in how the same angular momenta are coupled. Each
/// product is computed once for all of them.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The functions.
    pub numbers: Vec<u32>,
    /// Terms: `start..mid` are plain products, in `mid..end` the second factor is conjugated.
    pub start: u32,
    pub mid: u32,
    pub end: u32,
    /// The first coefficient: for each term one per function.
    pub coefs: usize,
}

/// A term of functions: the real part of a product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    pub x: u32,
    pub y: u32,
}

/// A function that a term is part of, with the coefficient of the term.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub function: u32,
    pub coef: f64,
}

/// A term of a block, with the functions that it is part of and its coefficient in each.
struct BlockTerm<'p> {
    conj: bool,
    part: Part,
    coefs: &'p [(u32, f64)],
}

/// Divides functions into blocks, each with its terms, plain products first.
fn blocks<'p>(functions: usize, leaves: &[Leaf], proj: &'p [Vec<(u32, f64)>]) -> Vec<(Vec<u32>, Vec<BlockTerm<'p>>)> {
    // Functions that share a term belong together: each refers to one of a smaller number, down to the first.
    let mut first: Vec<u32> = (0..functions as u32).collect();
    fn root(first: &mut [u32], mut f: u32) -> u32 {
        while first[f as usize] != f {
            first[f as usize] = first[first[f as usize] as usize];
            f = first[f as usize];
        }
        f
    }
    for leaf in leaves {
        for pair in proj[leaf.term].windows(2) {
            let (a, b) = (root(&mut first, pair[0].0), root(&mut first, pair[1].0));
            first[a.max(b) as usize] = a.min(b);
        }
    }
    let mut members: Vec<Vec<u32>> = vec![Vec::new(); functions];
    for f in 0..functions as u32 {
        members[root(&mut first, f) as usize].push(f);
    }
    let mut terms: Vec<Vec<BlockTerm>> = (0..functions).map(|_| Vec::new()).collect();
    for leaf in leaves {
        if let Some(&(function, _)) = proj[leaf.term].first() {
            let part = Part { x: leaf.x, y: leaf.y };
            let term = BlockTerm { conj: leaf.conj, part, coefs: &proj[leaf.term] };
            terms[root(&mut first, function) as usize].push(term);
        }
    }
    let mut blocks = Vec::new();
    for (members, terms) in members.into_iter().zip(terms).filter(|(members, _)| !members.is_empty()) {
        for numbers in members.chunks(BLOCK) {
            let own = |term: &&BlockTerm| term.coefs.iter().any(|c| numbers.contains(&c.0));
            let mut terms: Vec<BlockTerm> = terms.iter().filter(own).map(|t| BlockTerm { ..*t }).collect();
            terms.sort_by_key(|t| (t.conj, t.part.x, t.part.y));
            blocks.push((numbers.to_vec(), terms));
        }
    }
    // As the groups: blocks of equal size follow each other.
    blocks.sort_by_cached_key(|(numbers, terms)| (numbers.len(), terms.partition_point(|t| !t.conj), terms.len()));
    blocks
}

/// A sorted multiset of factors.
type Key = Vec<Factor>;

/// Collects terms and compiles them.
pub(crate) struct Builder {
    /// Whether a base node is real (m = 0) and thus its own conjugate.
    real: Vec<bool>,
    densities: usize,
    terms: HashMap<Key, usize>,
    keys: Vec<Key>,
    coef: Vec<f64>,
    proj: Vec<Vec<(u32, f64)>>,
    nodes: HashMap<Key, NodeRef>,
    interior: Vec<Interior>,
    /// Number of terms that contain a pair.
    pair_counts: HashMap<Key, u32>,
}

impl Builder {
    /// `real`: whether each node of the atomic base is real; `densities`: their number.
    pub(crate) fn new(real: Vec<bool>, densities: usize) -> Self {
        Builder {
            real,
            densities,
            terms: HashMap::new(),
            keys: Vec::new(),
            coef: Vec::new(),
            proj: Vec::new(),
            nodes: HashMap::new(),
            interior: Vec::new(),
            pair_counts: HashMap::new(),
        }
    }

    /// The product or its conjugate, whichever sorts first, and whether it is the conjugate.
    fn canonical(&self, factors: &[Factor]) -> (Key, bool) {
        let mut plain = factors.to_vec();
        plain.sort_unstable();
        let mut conj: Key = factors.iter().map(|&f| if self.real[(f / 2) as usize] { f } else { f ^ 1 }).collect();
        conj.sort_unstable();
        if conj < plain { (conj, true) } else { (plain, false) }
    }

    /// Adds a term with its coefficients, one per density, and optionally its coefficient in a basis function of the given
    /// number.
    pub(crate) fn add(&mut self, factors: &[Factor], coef: impl Iterator<Item = f64>, function: Option<(u32, f64)>) {
        let (key, _) = self.canonical(factors);
        let next = self.keys.len();
        let term = *self.terms.entry(key).or_insert_with_key(|k| {
            self.keys.push(k.clone());
            next
        });
        if term == next {
            self.coef.resize(self.coef.len() + self.densities, 0.0);
            self.proj.push(Vec::new());
        }
        for (sum, c) in self.coef[term * self.densities..].iter_mut().zip(coef) {
            *sum += c;
        }
        if let Some(f) = function {
            match self.proj[term].iter_mut().find(|p| p.0 == f.0) {
                Some(p) => p.1 += f.1,
                None => self.proj[term].push(f),
            }
        }
    }

    /// Compiles the graph. `functions` is the number of basis functions; those without terms are zero.
    ///
    /// # Panics
    /// If an index is out of range, which would be an error of this builder.
    pub(crate) fn build(mut self, functions: usize) -> Graph {
        // Terms that cancelled are dropped.
        let nd = self.densities;
        let live: Vec<usize> = (0..self.keys.len())
            .filter(|&t| self.coef[t * nd..(t + 1) * nd].iter().any(|&c| c != 0.0) || !self.proj[t].is_empty())
            .collect();
        let keys = std::mem::take(&mut self.keys);
        for &t in &live {
            if keys[t].len() > 2 {
                for pair in subsets(&keys[t], 2) {
                    let (k, _) = self.canonical(&pair.0);
                    *self.pair_counts.entry(k).or_default() += 1;
                }
            }
        }
        self.cover_triples(&live, &keys);
        // Smaller terms first, so that larger ones can use their nodes; among equals, those that need the fewest new nodes.
        let mut order = live;
        order.sort_by_cached_key(|&t| (keys[t].len(), self.best_split(&keys[t]).0, t));
        let mut leaves: Vec<Leaf> = Vec::with_capacity(order.len());
        for term in order {
            let (_, left, right) = self.best_split(&keys[term]);
            let (a, b) = (self.ensure(&left), self.ensure(&right));
            // Grouped by the larger factor: the smaller ones, which are read once per term, stay in the cache.
            let (x, y) = if (left.len(), a.node) >= (right.len(), b.node) { (a, b) } else { (b, a) };
            leaves.push(Leaf { x: x.node, y: y.node, conj: x.conj != y.conj, term });
        }
        let base = self.real.len();
        let (interior, new_index) = sort_by_depth(self.interior, base);
        for l in &mut leaves {
            (l.x, l.y) = (new_index(l.x), new_index(l.y));
        }
        let blocks = blocks(functions, &leaves, &self.proj);
        let swapped = leaves.iter().map(|&l| Leaf { x: l.y, y: l.x, ..l }).collect();
        let ((by_x, x_terms), (mut by_y, y_terms)) =
            (Terms::new(leaves, &self.coef, nd), Terms::new(swapped, &self.coef, nd));
        let mut g = GraphParts { base, densities: nd, interior, by_x, functions, ..GraphParts::default() };
        if self.proj.iter().any(|functions| !functions.is_empty()) {
            let mut place = vec![0; self.proj.len()];
            x_terms.iter().zip(0..).for_each(|(&term, k)| place[term] = k);
            by_y.other = y_terms.iter().map(|&term| place[term]).collect();
            g.share_starts.push(0);
            for &term in &x_terms {
                g.shares.extend(self.proj[term].iter().map(|&(function, coef)| Share { function, coef }));
                g.share_starts.push(g.shares.len() as u32);
            }
        }
        g.by_y = by_y;
        for (numbers, terms) in blocks {
            let (start, coefs) = (g.parts.len() as u32, g.part_coefs.len());
            let plain = terms.partition_point(|t| !t.conj) as u32;
            for term in &terms {
                g.parts.push(term.part);
                let own = |number: &u32| term.coefs.iter().filter(|c| c.0 == *number).map(|c| c.1).sum::<f64>();
                g.part_coefs.extend(numbers.iter().map(own));
            }
            let end = g.parts.len() as u32;
            g.blocks.push(Block { numbers, start, mid: start + plain, end, coefs });
        }
        Graph::new(g).unwrap_or_else(|e| panic!("the product graph is inconsistent: {e}"))
    }

    /// Chooses one pair per term of three factors: greedily, the pair that is in most terms not yet covered.
    fn cover_triples(&mut self, live: &[usize], keys: &[Key]) {
        let triples: Vec<usize> = live.iter().copied().filter(|&t| keys[t].len() == 3).collect();
        let mut members: HashMap<Key, Vec<usize>> = HashMap::new();
        for &t in &triples {
            for (pair, _) in subsets(&keys[t], 2) {
                let (k, _) = self.canonical(&pair);
                let list = members.entry(k).or_default();
                if list.last() != Some(&t) {
                    list.push(t);
                }
            }
        }
        // Ties are broken by the key, so that the graph of a file is always the same.
        let mut heap: BinaryHeap<(usize, std::cmp::Reverse<Key>)> =
            members.iter().map(|(k, v)| (v.len(), std::cmp::Reverse(k.clone()))).collect();
        let mut covered = std::collections::HashSet::new();
        while let Some((count, std::cmp::Reverse(key))) = heap.pop() {
            let open = members[&key].iter().filter(|t| !covered.contains(*t)).count();
            if open == 0 {
                continue;
            }
            if open < count {
                heap.push((open, std::cmp::Reverse(key)));
                continue;
            }
            covered.extend(members[&key].iter().copied());
            self.ensure(&key);
        }
    }

    /// Number of new nodes that a factor requires.
    fn missing(&self, factors: &[Factor]) -> usize {
        if factors.len() == 1 || self.nodes.contains_key(&self.canonical(factors).0) {
            return 0;
        }
        1 + if factors.len() > 2 { self.best_split(factors).0 } else { 0 }
    }

    /// The split into two factors that requires the fewest new nodes: their number, and the two factors.
    fn best_split(&self, key: &[Factor]) -> (usize, Key, Key) {
        let half = key.len().div_ceil(2);
        let mut best: Option<(usize, std::cmp::Reverse<u32>, Key, Key)> = None;
        for (left, right) in subsets(key, half) {
            let cost = self.missing(&left) + self.missing(&right);
            let pop = [&left, &right]
                .into_iter()
                .filter(|f| f.len() == 2)
                .map(|f| self.pair_counts.get(&self.canonical(f).0).copied().unwrap_or(0))
                .sum();
            let candidate = (cost, std::cmp::Reverse(pop), left, right);
            if best.as_ref().is_none_or(|b| candidate < *b) {
                best = Some(candidate);
            }
        }
        best.map_or_else(|| (0, key.to_vec(), Vec::new()), |b| (b.0, b.2, b.3))
    }

    /// The node of a factor; missing nodes are added.
    fn ensure(&mut self, factors: &[Factor]) -> NodeRef {
        if let [f] = factors {
            return NodeRef { node: f / 2, conj: f % 2 == 1 };
        }
        let (key, conj) = self.canonical(factors);
        if let Some(r) = self.nodes.get(&key) {
            return NodeRef { node: r.node, conj: r.conj != conj };
        }
        let (_, left, right) = self.best_split(&key);
        let (a, b) = (self.ensure(&left), self.ensure(&right));
        let node = (self.real.len() + self.interior.len()) as u32;
        self.interior.push(Interior { a: a.node, b: b.node, conj: a.conj != b.conj });
        // a* b is stored as its conjugate, a b*.
        self.nodes.insert(key, NodeRef { node, conj: a.conj });
        NodeRef { node, conj: a.conj != conj }
    }
}

/// Sorts interior nodes by depth, then by kind, so that independent nodes of one kind follow each other. Returns them with
/// the map from old to new indices.
fn sort_by_depth(nodes: Vec<Interior>, base: usize) -> (Vec<Interior>, impl Fn(u32) -> u32) {
    let mut depth = vec![0usize; base];
    for i in &nodes {
        depth.push(1 + depth[i.a as usize].max(depth[i.b as usize]));
    }
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_key(|&k| (depth[base + k], nodes[k].conj));
    let mut new_index: Vec<u32> = (0..(base + nodes.len()) as u32).collect();
    for (to, &from) in order.iter().enumerate() {
        new_index[base + from] = (base + to) as u32;
    }
    let new_index = move |node: u32| new_index[node as usize];
    let moved = |i: &Interior| Interior { a: new_index(i.a), b: new_index(i.b), conj: i.conj };
    (order.iter().map(|&k| moved(&nodes[k])).collect(), new_index)
}

/// All choices of `size` of the factors, each with the remaining ones. Halves of equal size appear once.
fn subsets(key: &[Factor], size: usize) -> Vec<(Key, Key)> {
    let n = key.len();
    let mut out = Vec::new();
    for mask in 0u32..1 << n {
        if mask.count_ones() as usize != size || (2 * size == n && mask & 1 == 0) {
            continue;
        }
        let pick = |bit: u32| (0..n).filter(|&i| (mask >> i) & 1 == bit).map(|i| key[i]).collect();
        out.push((pick(1), pick(0)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    type C = (f64, f64);

    fn mul(a: C, b: C) -> C {
        (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
    }

    fn conj(a: C, yes: bool) -> C {
        if yes { (a.0, -a.1) } else { a }
    }

    #[test]
    fn graph_equals_plain_products() {
        let real: Vec<bool> = (0..12).map(|i| i % 3 == 0).collect();
        let value: Vec<C> =
            (0..12).map(|i| ((i as f64 * 1.7).sin(), if i % 3 == 0 { 0.0 } else { (i as f64 * 0.9).cos() })).collect();
        let mut b = Builder::new(real, 2);
        let mut want = [0.0; 2];
        let mut seed = 1u32;
        for k in 0..3000 {
            let rank = 2 + k % 5;
            let factors: Vec<u32> = (0..rank)
                .map(|_| {
                    seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
                    let f = (seed >> 16) % 24;
                    if (f / 2).is_multiple_of(3) { f & !1 } else { f }
                })
                .collect();
            let c = [k as f64 * 0.01, 1.0];
            let p = factors.iter().fold((1.0, 0.0), |p, &f| mul(p, conj(value[f as usize / 2], f % 2 == 1)));
            want[0] += c[0] * p.0;
            want[1] += c[1] * p.0;
            b.add(&factors, c.into_iter(), Some((0, 1.0)));
        }
        let g = b.build(3);
        // Functions without terms are listed too, so that their projections are set to zero.
        assert_eq!((g.functions(), g.blocks().len()), (3, 3));
        let of = |number: u32| g.blocks().iter().find(|b| b.numbers == [number]).unwrap();
        assert!(of(0).end > of(0).start && of(1).start == of(1).end && of(2).start == of(2).end);
        let mut node = value;
        for i in g.interior() {
            node.push(mul(node[i.a as usize], conj(node[i.b as usize], i.conj)));
        }
        let mut projection = 0.0;
        let sum = |terms: &Terms| {
            let mut sum = [0.0; 2];
            for l in &terms.groups {
                for t in l.start as usize..l.end as usize {
                    let v = mul(node[l.node as usize], conj(node[terms.partner[t] as usize], t >= l.mid as usize)).0;
                    sum[0] += terms.coef[2 * t] * v;
                    sum[1] += terms.coef[2 * t + 1] * v;
                }
            }
            sum
        };
        let got = sum(g.by_x());
        for (a, b) in got.iter().zip(sum(g.by_y())) {
            assert!((a - b).abs() < 1e-9 * a.abs().max(1.0));
        }
        for (k, p) in g.parts().iter().enumerate() {
            let y = conj(node[p.y as usize], k >= of(0).mid as usize);
            projection += g.part_coefs()[k] * mul(node[p.x as usize], y).0;
        }
        assert!((got[0] - want[0]).abs() < 1e-9 * want[0].abs(), "{got:?} {want:?}");
        assert!((got[1] - want[1]).abs() < 1e-9);
        assert!((projection - want[1]).abs() < 1e-9);
    }

    /// Functions of the same products are one block, up to the largest number, whatever their coefficients.
    #[test]
    fn functions_that_share_products_are_computed_together() {
        let mut b = Builder::new(vec![true; 3], 1);
        for function in 0..10 {
            for (k, factors) in [[0, 2], [0, 4], [2, 4]].iter().enumerate() {
                // The first function lacks one of the products.
                if function != 0 || k != 1 {
                    b.add(factors, [1.0].into_iter(), Some((function, f64::from(10 * function) + k as f64)));
                }
            }
        }
        b.add(&[0, 0], [1.0].into_iter(), Some((10, 7.0)));
        let g = b.build(11);
        let sizes: Vec<_> = g.blocks().iter().map(|b| (b.numbers.len(), b.end - b.start)).collect();
        assert_eq!(sizes, [(1, 1), (2, 3), (8, 3)]);
        let eight = &g.blocks()[2];
        assert_eq!(eight.numbers, [0, 1, 2, 3, 4, 5, 6, 7]);
        for (k, part) in g.parts()[eight.start as usize..eight.end as usize].iter().enumerate() {
            let coefs = &g.part_coefs()[eight.coefs + 8 * k..][..8];
            let product = [[0, 1], [0, 2], [1, 2]].iter().position(|p| {
                let (low, high) = (part.x.min(part.y), part.x.max(part.y));
                *p == [low, high]
            });
            let product = product.unwrap();
            assert_eq!(coefs[0], if product == 1 { 0.0 } else { product as f64 });
            assert_eq!(coefs[7], 70.0 + product as f64);
        }
    }

    /// A graph of two base nodes and one product, without an error.
    fn valid() -> GraphParts {
        let group = |node| Group { node, start: 0, mid: 1, end: 1 };
        let terms = |node, partner, other| Terms {
            groups: vec![group(node)],
            partner: vec![partner],
            coef: vec![1.0, 2.0],
            other,
        };
        GraphParts {
            base: 2,
            densities: 2,
            interior: vec![Interior { a: 0, b: 1, conj: false }],
            by_x: terms(2, 1, Vec::new()),
            by_y: terms(1, 2, vec![0]),
            functions: 1,
            blocks: vec![Block { numbers: vec![0], start: 0, mid: 0, end: 1, coefs: 0 }],
            parts: vec![Part { x: 2, y: 1 }],
            part_coefs: vec![1.0],
            share_starts: vec![0, 1],
            shares: vec![Share { function: 0, coef: 1.0 }],
        }
    }

    #[test]
    fn an_index_out_of_range_is_refused() {
        Graph::new(valid()).unwrap();
        type Fault = fn(&mut GraphParts);
        let faults: [(Fault, &str); 21] = [
            (|g| g.interior[0].a = 2, "before its factors"),
            (|g| g.interior[0].b = u32::MAX, "before its factors"),
            (|g| g.by_x.groups[0].node = 3, "group by the first factor uses node 3 of 3"),
            (|g| g.by_y.groups[0].node = 3, "group by the second factor uses node 3 of 3"),
            (|g| g.by_x.partner[0] = 3, "grouped by its first factor uses node 3 of 3"),
            (|g| g.by_y.partner[0] = 3, "grouped by its second factor uses node 3 of 3"),
            (|g| g.by_x.groups[0].end = 2, "a group has the range 0..1..2 of 1"),
            (|g| g.by_x.groups[0].mid = 2, "a group has the range 0..2..1 of 1"),
            (|g| g.by_x.groups[0].start = 2, "a group has the range 2..1..1 of 1"),
            (|g| g.by_y.coef.truncate(1), "1 coefficients for 1 terms"),
            (|g| g.blocks[0].end = 2, "a block has the range 0..0..2 of 1"),
            (|g| g.blocks[0].numbers[0] = 1, "function number 1 of 1"),
            (|g| g.blocks[0].numbers.clear(), "0 functions have the coefficients 0 to 0 of 1"),
            (|g| g.blocks[0].coefs = 1, "1 functions have the coefficients 1 to 2 of 1"),
            (|g| g.parts[0].x = 3, "a function uses nodes 3 and 1 of 3"),
            (|g| g.parts[0].y = 3, "a function uses nodes 2 and 3 of 3"),
            (|g| g.share_starts[1] = 2, "the functions of 1 terms are 2 ranges of 1"),
            (|g| g.share_starts.truncate(1), "the functions of 1 terms are 1 ranges of 1"),
            (|g| g.share_starts[0] = 3, "the functions of 1 terms are 2 ranges of 1"),
            (|g| g.shares[0].function = 1, "a term is part of function 1 of 1"),
            (|g| g.by_y.other[0] = 1, "the terms by the second factor are not the 1 by the first"),
        ];
        for (fault, message) in faults {
            let mut parts = valid();
            fault(&mut parts);
            let error = Graph::new(parts).unwrap_err();
            assert!(error.contains(message), "{error:?} instead of {message:?}");
        }
    }
}
