// SPDX-License-Identifier: GPL-2.0-or-later
//! `.yaml`: a B-basis, as pacemaker writes it.

use super::yace::radcoefficients;
use super::yaml::{self, Context, Node};
use crate::error::{Error, Result, limit};
use crate::model::coupling::{Coupled, couple};
use crate::model::{
    BasisFunction, Bond, Embedding, InnerCutoff, MAX_DENSITIES, MAX_ELEMENTS, MAX_L, MAX_N, MAX_RANK, Model,
    RadialBasis,
};
use std::collections::{BTreeSet, HashMap};

/// Largest space of magnetic quantum numbers that is enumerated for one function.
const MAX_MS_SPACE: usize = 50_000_000;

/// Radial part of a one- or two-element block.
#[derive(Clone, PartialEq)]
struct Radial {
    nradmax: usize,
    lmax: usize,
    nradbase: usize,
    basis: RadialBasis,
    lambda: Vec<f64>,
    crad: Vec<f64>,
    rcut: f64,
    dcut: f64,
}

/// Repulsive part of a block.
#[derive(Clone, PartialEq)]
struct Core {
    prehc: f64,
    lambdahc: f64,
    inner: InnerCutoff,
    r_in: f64,
    delta_in: f64,
}

struct Block<'a, 'b> {
    name: &'a str,
    /// Elements as written; for a single-element block, twice the same.
    elements: Vec<&'a str>,
    /// Number of different elements.
    species: usize,
    radial: Option<Radial>,
    core: Core,
    core_given: bool,
    node: &'a Node<'b>,
}

pub(super) fn parse(text: &str) -> Result<Model> {
    let doc = yaml::parse(text)?;
    let delta_spline = doc.get("global")?.get("DeltaSplineBins")?.f64()?;
    let mut blocks = Vec::new();
    for node in doc.get("species")?.seq()? {
        let name = node.get("speciesblock")?.str()?;
        blocks.push(block(name, node).context(|| format!("species block `{name}`"))?);
    }
    let names: BTreeSet<&str> = blocks.iter().flat_map(|b| b.elements.iter().copied()).collect();
    let elements: Vec<String> = names.iter().map(|s| s.to_string()).collect();
    let ne = elements.len();
    limit("number of elements", ne, MAX_ELEMENTS)?;
    let index: HashMap<&str, usize> = names.iter().enumerate().map(|(i, s)| (*s, i)).collect();

    share_between_duals(&mut blocks)?;

    let mut embeddings: Vec<Option<Embedding>> = vec![None; ne];
    let mut bonds: Vec<Option<Bond>> = vec![None; ne * ne];
    let mut inner = None;
    for b in blocks.iter().filter(|b| b.species <= 2) {
        let (i, j) = (index[b.elements[0]], index[b.elements[1]]);
        let place = || format!("species block `{}`", b.name);
        if *inner.get_or_insert(b.core.inner) != b.core.inner {
            return Err(Error::bad("inner_cutoff_type differs between blocks")).context(place);
        }
        let r = b.radial.as_ref().ok_or_else(|| Error::bad("no radial basis")).context(place)?;
        let bond = Bond {
            nradmax: r.nradmax,
            lmax: r.lmax,
            nradbase: r.nradbase,
            basis: r.basis,
            lambda: *r.lambda.first().ok_or_else(|| Error::bad("radparameters is empty"))?,
            crad: r.crad.clone(),
            prehc: b.core.prehc,
            lambdahc: b.core.lambdahc,
            rcut: r.rcut,
            dcut: r.dcut,
            r_in: b.core.r_in,
            delta_in: b.core.delta_in,
            ..Bond::none()
        };
        if bonds[i * ne + j].replace(bond).is_some() {
            return Err(Error::bad("the block is given twice")).context(place);
        }
        if b.species == 1 {
            embeddings[i] = Some(embedding(b.node).context(place)?);
        }
    }
    let embeddings: Vec<Embedding> = embeddings
        .into_iter()
        .enumerate()
        .map(|(i, e)| e.ok_or_else(|| Error::bad(format!("no species block for {} alone", elements[i]))))
        .collect::<Result<_>>()?;

    let mut functions: Vec<Vec<Sortable>> = (0..ne).map(|_| Vec::new()).collect();
    let mut couplings: HashMap<(Vec<u8>, Vec<u8>), Coupled> = HashMap::new();
    for b in &blocks {
        let Some(list) = b.node.find("nbody") else { continue };
        let mu0 = index[b.elements[0]];
        let (one, other) = (b.elements[0], b.elements[1]);
        let is_dual = |d: &&Block| d.species == 2 && d.elements == [other, one] && d.node.find("nbody").is_some();
        if b.species == 2 && b.elements.len() == 2 && blocks.iter().find(is_dual).is_none() {
            return Err(Error::bad(format!(
                "species block `{one} {other}` has functions, but `{other} {one}` has none; is the file incomplete?"
            )));
        }
        for (k, node) in list.seq()?.iter().enumerate() {
            let f = function(node, b, &index, &bonds[mu0 * ne..][..ne], embeddings[mu0].ndensity, &mut couplings)
                .context(|| format!("species block `{}`, function {k}", b.name))?;
            functions[mu0].extend(f.map(Sortable));
        }
    }
    let functions = functions
        .into_iter()
        .map(|mut list| {
            list.sort_by(|a, b| a.key().cmp(&b.key()));
            list.into_iter().map(|s| s.0).collect()
        })
        .collect();
    Ok(Model {
        e0: vec![0.0; ne],
        elements,
        delta_spline,
        inner: inner.unwrap_or(InnerCutoff::Density),
        embeddings,
        bonds: bonds.into_iter().map(|b| b.unwrap_or_else(Bond::none)).collect(),
        functions,
        is_b_basis: true,
    })
}

/// A function in the order in which the rows of an active set are stored.
struct Sortable(BasisFunction);

impl Sortable {
    #[allow(clippy::type_complexity)]
    fn key(&self) -> (usize, &[u8], &[u8], &[u8], usize, &[i8]) {
        let f = &self.0;
        (f.rank(), &f.mus, &f.ns, &f.ls, f.cg.len(), &f.ms)
    }
}

fn block<'a, 'b>(name: &'a str, node: &'a Node<'b>) -> Result<Block<'a, 'b>> {
    let mut elements: Vec<&str> = name.split_ascii_whitespace().collect();
    if elements.is_empty() {
        return Err(Error::bad("the block has no elements"));
    }
    let species = elements.iter().collect::<BTreeSet<_>>().len();
    if elements.len() == 1 {
        elements.push(elements[0]);
    }
    let radial = if let Some(l) = node.find("lmaxi") {
        let lmax = l.usize(MAX_L).context(|| "lmaxi".into())?;
        let nradmax = node.size("nradmaxi", MAX_N)?;
        let nradbase = node.size("nradbaseij", MAX_N)?;
        let crad_node = node.get("radcoefficients")?;
        let crad = match crad_node.seq()?.first() {
            Some(Node::Scalar(_)) => flat_radcoefficients(&crad_node.floats()?, nradmax, lmax, nradbase)?,
            _ => radcoefficients(crad_node, nradmax, lmax, nradbase)?,
        };
        Some(Radial {
            nradmax,
            lmax,
            nradbase,
            basis: RadialBasis::parse(node.get("radbase")?.str()?)?,
            lambda: node.get("radparameters")?.floats()?,
            crad,
            rcut: node.get("rcutij")?.f64()?,
            dcut: node.get("dcutij")?.f64()?,
        })
    } else {
        for key in ["nradmaxi", "nradbaseij", "radbase", "radparameters", "radcoefficients"] {
            if node.find(key).is_some() {
                return Err(Error::bad(format!("`{key}` is given without `lmaxi`")));
            }
        }
        None
    };
    let optional = |key: &str| node.find(key).map_or(Ok(0.0), |n| n.f64().context(|| key.into()));
    let repulsion = node.find("core-repulsion").map_or(Ok(vec![0.0, 0.0]), Node::floats)?;
    if repulsion.len() < 2 {
        return Err(Error::bad("core-repulsion requires two values"));
    }
    let core = Core {
        prehc: repulsion[0],
        lambdahc: repulsion[1],
        inner: InnerCutoff::parse(node.find("inner_cutoff_type").map_or(Ok("density"), Node::str)?)?,
        r_in: optional("r_in")?,
        delta_in: optional("delta_in")?,
    };
    Ok(Block { name, elements, species, radial, core, core_given: node.find("core-repulsion").is_some(), node })
}

/// Converts the deprecated flat list, with k outermost, to `[n][l][k]`.
fn flat_radcoefficients(flat: &[f64], nradmax: usize, lmax: usize, nradbase: usize) -> Result<Vec<f64>> {
    let nl = nradmax * (lmax + 1);
    if flat.len() < nl * nradbase {
        return Err(Error::bad(format!("radcoefficients has {} values, {} are required", flat.len(), nl * nradbase)));
    }
    Ok((0..nl).flat_map(|i| (0..nradbase).map(move |k| flat[k * nl + i])).collect())
}

/// Copies what only one of the blocks `A B` and `B A` defines to the other; definitions in both must agree.
fn share_between_duals(blocks: &mut [Block]) -> Result<()> {
    for a in 0..blocks.len() {
        if blocks[a].species != 2 || blocks[a].elements.len() != 2 {
            continue;
        }
        for b in 0..blocks.len() {
            let dual = [blocks[a].elements[1], blocks[a].elements[0]];
            if blocks[b].elements != dual {
                continue;
            }
            let place = |t: &[Block]| format!("species blocks `{}` and `{}`", t[a].name, t[b].name);
            match (blocks[a].radial.clone(), blocks[b].radial.clone()) {
                (None, None) => return Err(Error::bad(format!("{}: no radial basis", place(blocks)))),
                (None, from) => blocks[a].radial = from,
                (from, None) => blocks[b].radial = from,
                (x, y) if x != y => {
                    return Err(Error::bad(format!("{}: the radial bases differ", place(blocks))));
                }
                _ => {}
            }
            match (blocks[a].core_given, blocks[b].core_given) {
                (false, true) => blocks[a].core = blocks[b].core.clone(),
                (true, false) => blocks[b].core = blocks[a].core.clone(),
                _ => {}
            }
            if blocks[a].core != blocks[b].core {
                return Err(Error::bad(format!("{}: repulsion or inner cutoff differ", place(blocks))));
            }
        }
    }
    Ok(())
}

fn embedding(node: &Node) -> Result<Embedding> {
    let optional = |key: &str, default: f64| node.find(key).map_or(Ok(default), |n| n.f64().context(|| key.into()));
    Ok(Embedding {
        kind: Embedding::parse_kind(node.get("npoti")?.str()?)?,
        ndensity: node.size("ndensityi", MAX_DENSITIES)?,
        parameters: node.get("parameters")?.floats()?,
        rho_cut: optional("rho_core_cut", 100_000.0)?,
        drho_cut: optional("drho_core_cut", 250.0)?,
    })
}

/// Reads one function; `None` if it is marked `skip`.
fn function(
    node: &Node,
    block: &Block,
    index: &HashMap<&str, usize>,
    bonds: &[Option<Bond>],
    nd: usize,
    couplings: &mut HashMap<(Vec<u8>, Vec<u8>), Coupled>,
) -> Result<Option<BasisFunction>> {
    if node.find("skip").map_or(Ok(false), Node::bool)? {
        return Ok(None);
    }
    let kinds: Vec<&str> = node.get("type")?.str()?.split_ascii_whitespace().collect();
    if kinds.len() < 2 {
        return Err(Error::bad(format!("type `{}` has no neighbours", kinds.join(" "))));
    }
    if kinds.len() - 1 > MAX_RANK {
        return Err(Error::Unsupported(format!(
            "a function of {} neighbours, at most {MAX_RANK} are possible",
            kinds.len() - 1
        )));
    }
    if kinds[0] != block.elements[0] || kinds.iter().any(|k| !block.elements.contains(k)) {
        return Err(Error::bad(format!("type `{}` does not fit the block", kinds.join(" "))));
    }
    let mus: Vec<u8> = kinds[1..].iter().map(|k| index[k] as u8).collect();
    let rank = mus.len();
    let ns = node.get("nr")?.bytes(1, MAX_N as i64, 1)?;
    let ls = node.get("nl")?.bytes(0, MAX_L as i64, 0)?;
    let lint = if rank > 2 { node.get("lint")?.bytes(0, 2 * MAX_L as i64, 0)? } else { Vec::new() };
    if ns.len() != rank || ls.len() != rank {
        return Err(Error::bad("nr, nl and type differ in length"));
    }
    let c = match node.get("c")? {
        s @ Node::Scalar(_) => vec![s.f64()?],
        list => list.floats()?,
    };
    if c.len() != nd {
        return Err(Error::bad(format!("{} coefficients, but {nd} densities", c.len())));
    }
    for t in 0..rank {
        let bond = bonds[mus[t] as usize]
            .as_ref()
            .ok_or_else(|| Error::bad(format!("no block defines the pair {} {}", kinds[0], kinds[t + 1])))?;
        let max = if rank == 1 { bond.nradbase } else { bond.nradmax };
        if ns[t] as usize >= max || ls[t] as usize > bond.lmax {
            return Err(Error::bad(format!(
                "n = {}, l = {} is not defined by the bond {} {}",
                ns[t] as usize + 1,
                ls[t],
                kinds[0],
                kinds[t + 1]
            )));
        }
    }
    let space = ls.iter().try_fold(1usize, |s, &l| s.checked_mul(2 * l as usize + 1)).unwrap_or(usize::MAX);
    limit("number of combinations of m in one function", space, MAX_MS_SPACE)?;
    let key = (ls.clone(), lint.clone());
    let coupled = match couplings.get(&key) {
        Some(c) => c,
        None => couplings.entry(key).or_insert(couple(&ls, &lint)?),
    };
    if coupled.cg.is_empty() {
        return Err(Error::bad(format!("nl = {ls:?}, lint = {lint:?} cannot be coupled to zero")));
    }
    let coef = coupled.cg.iter().flat_map(|g| c.iter().map(move |c| g * c)).collect();
    Ok(Some(BasisFunction { mus, ns, ls, ms: coupled.ms.clone(), cg: coupled.cg.clone(), coef }))
}
