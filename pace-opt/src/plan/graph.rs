// SPDX-License-Identifier: GPL-2.0-or-later
//! Products of the atomic base as a graph: each shared factor is multiplied once.
//!
//! A term `Re(A₁ A₂ … Aᵣ)` is split into two factors X and Y, and each factor that is itself a product into
//! two smaller ones (Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021), section on recursive evaluation).
//! Terms and factors are the same up to complex conjugation, which is free.

use std::collections::{BinaryHeap, HashMap};

/// A factor of the atomic base or its conjugate: twice the node, plus one for the conjugate.
pub(crate) type Factor = u32;

/// A product node, or a node of the atomic base, possibly conjugated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ref {
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

/// All terms that share the factor `node`. Terms `start..mid` multiply plainly, `mid..end` with the conjugate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub node: u32,
    pub start: u32,
    pub mid: u32,
    pub end: u32,
}

/// The terms of the densities by one of their two factors.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    pub groups: Vec<Group>,
    /// The other factor of each term.
    pub partner: Vec<u32>,
    /// Coefficients of each term, one per density.
    pub coef: Vec<f64>,
}

/// A term: its factors, whether one of them is conjugated, and its number.
#[derive(Clone, Copy)]
struct Leaf {
    x: u32,
    y: u32,
    conj: bool,
    term: usize,
}

impl Terms {
    /// Terms by the first factor of each leaf.
    fn new(mut leaves: Vec<Leaf>, coef: &[f64], nd: usize) -> Self {
        leaves.sort_unstable_by_key(|l| (l.x, l.conj, l.y, l.term));
        let plain = |group: &[Leaf]| group.iter().filter(|l| !l.conj).count();
        // Groups of one shape together: processors foresee the length of a loop that they have just seen.
        let mut groups: Vec<&[Leaf]> = leaves.chunk_by(|a, b| a.x == b.x).collect();
        groups.sort_by_key(|group| (plain(group), group.len()));
        let mut terms = Terms::default();
        for group in groups {
            let start = terms.partner.len() as u32;
            let (mid, end) = (start + plain(group) as u32, start + group.len() as u32);
            terms.groups.push(Group { node: group[0].x, start, mid, end });
            for l in group {
                terms.partner.push(l.y);
                terms.coef.extend_from_slice(&coef[l.term * nd..(l.term + 1) * nd]);
            }
        }
        terms
    }
}

/// The compiled products of one element.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// Nodes of the atomic base; they come first.
    pub base: usize,
    /// Products that are factors of others, in an order in which they can be computed.
    pub interior: Vec<Interior>,
    /// Terms by their first factor, for the densities.
    pub by_x: Terms,
    /// The same terms by their second factor, for its slope.
    pub by_y: Terms,
    /// All functions, and which of `parts` each is made of.
    pub functions: Vec<Function>,
    /// The terms of all functions, in their order.
    pub parts: Vec<Part>,
}

/// Parts of a function: `start..mid` multiply plainly, `mid..end` with the conjugate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function {
    pub number: u32,
    pub start: u32,
    pub mid: u32,
    pub end: u32,
}

/// A term of a function: `coef` times the real part of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub x: u32,
    pub y: u32,
    pub coef: f64,
}

/// A sorted multiset of factors.
type Key = Vec<Factor>;

/// Collects terms and compiles them.
pub(crate) struct Builder {
    /// Whether a base node is real (m = 0), so that it is its own conjugate.
    real: Vec<bool>,
    ndensity: usize,
    terms: HashMap<Key, usize>,
    keys: Vec<Key>,
    coef: Vec<f64>,
    proj: Vec<Vec<(u32, f64)>>,
    nodes: HashMap<Key, Ref>,
    interior: Vec<Interior>,
    /// How many terms contain a pair.
    popular: HashMap<Key, u32>,
}

impl Builder {
    pub(crate) fn new(real: Vec<bool>, ndensity: usize) -> Self {
        Builder {
            real,
            ndensity,
            terms: HashMap::new(),
            keys: Vec::new(),
            coef: Vec::new(),
            proj: Vec::new(),
            nodes: HashMap::new(),
            interior: Vec::new(),
            popular: HashMap::new(),
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

    /// Adds a term with its coefficients, and its share in a basis function where one is given.
    pub(crate) fn add(&mut self, factors: &[Factor], coef: impl Iterator<Item = f64>, function: Option<(u32, f64)>) {
        let (key, _) = self.canonical(factors);
        let next = self.keys.len();
        let term = *self.terms.entry(key).or_insert_with_key(|k| {
            self.keys.push(k.clone());
            next
        });
        if term == next {
            self.coef.resize(self.coef.len() + self.ndensity, 0.0);
            self.proj.push(Vec::new());
        }
        for (sum, c) in self.coef[term * self.ndensity..].iter_mut().zip(coef) {
            *sum += c;
        }
        if let Some(f) = function {
            match self.proj[term].iter_mut().find(|p| p.0 == f.0) {
                Some(p) => p.1 += f.1,
                None => self.proj[term].push(f),
            }
        }
    }

    /// The graph, for so many functions; those without terms are zero.
    pub(crate) fn build(mut self, functions: usize) -> Graph {
        // Cancelled terms are dropped.
        let nd = self.ndensity;
        let live: Vec<usize> = (0..self.keys.len())
            .filter(|&t| self.coef[t * nd..(t + 1) * nd].iter().any(|&c| c != 0.0) || !self.proj[t].is_empty())
            .collect();
        let keys = std::mem::take(&mut self.keys);
        for &t in &live {
            if keys[t].len() > 2 {
                for pair in subsets(&keys[t], 2) {
                    let (k, _) = self.canonical(&pair.0);
                    *self.popular.entry(k).or_default() += 1;
                }
            }
        }
        self.cover_triples(&live, &keys);
        // Larger terms after smaller ones, so that they find nodes already there; those that need none first.
        let mut order = live;
        order.sort_by_cached_key(|&t| (keys[t].len(), self.best_split(&keys[t]).0, t));
        let mut leaves: Vec<Leaf> = Vec::with_capacity(order.len());
        for term in order {
            let (_, left, right) = self.best_split(&keys[term]);
            let (a, b) = (self.ensure(&left), self.ensure(&right));
            // The rarer factor in front: the other, of which many are read for each, stays in cache.
            let (x, y) = if (left.len(), a.node) >= (right.len(), b.node) { (a, b) } else { (b, a) };
            leaves.push(Leaf { x: x.node, y: y.node, conj: x.conj != y.conj, term });
        }
        let base = self.real.len();
        let (interior, place) = in_ranks(self.interior, base);
        let mut parts: Vec<(u32, bool, Part)> = Vec::new();
        for l in &mut leaves {
            (l.x, l.y) = (place(l.x), place(l.y));
            let part = |&(function, coef)| (function, l.conj, Part { x: l.x, y: l.y, coef });
            parts.extend(self.proj[l.term].iter().map(part));
        }
        let turned = leaves.iter().map(|&l| Leaf { x: l.y, y: l.x, ..l }).collect();
        let (by_x, by_y) = (Terms::new(leaves, &self.coef, nd), Terms::new(turned, &self.coef, nd));
        let mut g = Graph { base, interior, by_x, by_y, ..Graph::default() };
        parts.sort_by_key(|(function, conj, part)| (*function, *conj, part.x, part.y));
        // As the groups: those of one shape together.
        let of = |k: u32| &parts[parts.partition_point(|p| p.0 < k)..parts.partition_point(|p| p.0 <= k)];
        let plain = |k: u32| of(k).partition_point(|p| !p.1) as u32;
        let mut order: Vec<u32> = (0..functions as u32).collect();
        order.sort_by_cached_key(|&k| (plain(k), of(k).len()));
        for number in order {
            let start = g.parts.len() as u32;
            g.parts.extend(of(number).iter().map(|(.., part)| part));
            g.functions.push(Function { number, start, mid: start + plain(number), end: g.parts.len() as u32 });
        }
        g
    }

    /// Chooses pairs for the terms of three factors: always the pair that serves most terms not yet served.
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
        // Ties are broken by the key, so that a file always gives the same graph.
        let mut heap: BinaryHeap<(usize, std::cmp::Reverse<Key>)> =
            members.iter().map(|(k, v)| (v.len(), std::cmp::Reverse(k.clone()))).collect();
        let mut served = std::collections::HashSet::new();
        while let Some((count, std::cmp::Reverse(key))) = heap.pop() {
            let open = members[&key].iter().filter(|t| !served.contains(*t)).count();
            if open == 0 {
                continue;
            }
            if open < count {
                heap.push((open, std::cmp::Reverse(key)));
                continue;
            }
            served.extend(members[&key].iter().copied());
            self.ensure(&key);
        }
    }

    /// New nodes that a factor would need.
    fn missing(&self, factors: &[Factor]) -> usize {
        if factors.len() == 1 || self.nodes.contains_key(&self.canonical(factors).0) {
            return 0;
        }
        1 + if factors.len() > 2 { self.best_split(factors).0 } else { 0 }
    }

    /// The cheapest split into two factors: new nodes needed, and the two.
    fn best_split(&self, key: &[Factor]) -> (usize, Key, Key) {
        let half = key.len().div_ceil(2);
        let mut best: Option<(usize, std::cmp::Reverse<u32>, Key, Key)> = None;
        for (left, right) in subsets(key, half) {
            let cost = self.missing(&left) + self.missing(&right);
            let pop = [&left, &right]
                .into_iter()
                .filter(|f| f.len() == 2)
                .map(|f| self.popular.get(&self.canonical(f).0).copied().unwrap_or(0))
                .sum();
            let candidate = (cost, std::cmp::Reverse(pop), left, right);
            if best.as_ref().is_none_or(|b| candidate < *b) {
                best = Some(candidate);
            }
        }
        best.map_or_else(|| (0, key.to_vec(), Vec::new()), |b| (b.0, b.2, b.3))
    }

    /// The node of a factor, made with all it needs if it is not there.
    fn ensure(&mut self, factors: &[Factor]) -> Ref {
        if let [f] = factors {
            return Ref { node: f / 2, conj: f % 2 == 1 };
        }
        let (key, conj) = self.canonical(factors);
        if let Some(r) = self.nodes.get(&key) {
            return Ref { node: r.node, conj: r.conj != conj };
        }
        let (_, left, right) = self.best_split(&key);
        let (a, b) = (self.ensure(&left), self.ensure(&right));
        let node = (self.real.len() + self.interior.len()) as u32;
        self.interior.push(Interior { a: a.node, b: b.node, conj: a.conj != b.conj });
        // a* b is stored as its conjugate a b*.
        self.nodes.insert(key, Ref { node, conj: a.conj });
        Ref { node, conj: a.conj != conj }
    }
}

/// The interior nodes such that those that can be computed together, and in the same way, follow each other; and where
/// each node is then.
fn in_ranks(nodes: Vec<Interior>, base: usize) -> (Vec<Interior>, impl Fn(u32) -> u32) {
    let mut rank = vec![0usize; base];
    for i in &nodes {
        rank.push(1 + rank[i.a as usize].max(rank[i.b as usize]));
    }
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_key(|&k| (rank[base + k], nodes[k].conj));
    let mut place: Vec<u32> = (0..(base + nodes.len()) as u32).collect();
    for (to, &from) in order.iter().enumerate() {
        place[base + from] = (base + to) as u32;
    }
    let place = move |node: u32| place[node as usize];
    let moved = |i: &Interior| Interior { a: place(i.a), b: place(i.b), conj: i.conj };
    (order.iter().map(|&k| moved(&nodes[k])).collect(), place)
}

/// All ways to take `size` of the factors, and what is left; equal halves once.
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
        // Functions that have no terms have a place too: what stood there before would be taken for theirs.
        assert_eq!(g.functions.len(), 3);
        let of = |number: u32| g.functions.iter().find(|f| f.number == number).unwrap();
        assert!(of(0).end > of(0).start && of(1).start == of(1).end && of(2).start == of(2).end);
        let mut node = value;
        for i in &g.interior {
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
        let got = sum(&g.by_x);
        for (a, b) in got.iter().zip(sum(&g.by_y)) {
            assert!((a - b).abs() < 1e-9 * a.abs().max(1.0));
        }
        for (k, p) in g.parts.iter().enumerate() {
            let y = conj(node[p.y as usize], k >= of(0).mid as usize);
            projection += p.coef * mul(node[p.x as usize], y).0;
        }
        assert!((got[0] - want[0]).abs() < 1e-9 * want[0].abs(), "{got:?} {want:?}");
        assert!((got[1] - want[1]).abs() < 1e-9);
        assert!((projection - want[1]).abs() < 1e-9);
    }
}
