// SPDX-License-Identifier: GPL-2.0-or-later
//! `.yace`: a c-tilde basis as YAML.

use super::yaml::{self, Context, Node};
use crate::error::{Error, Result, limit};
use crate::model::{
    BasisFunction, Bond, Embedding, InnerCutoff, MAX_DENSITIES, MAX_ELEMENTS, MAX_L, MAX_N, MAX_RANK, Model,
    RadialBasis,
};

pub(super) fn parse(text: &str) -> Result<Model> {
    let doc = yaml::parse(text)?;
    let elements: Vec<String> =
        doc.get("elements")?.seq()?.iter().map(|n| n.str().map(str::to_owned)).collect::<Result<_>>()?;
    let ne = elements.len();
    limit("number of elements", ne, MAX_ELEMENTS)?;
    let e0 = doc.get("E0")?.floats().context(|| "E0".into())?;

    let mut embeddings: Vec<Option<Embedding>> = vec![None; ne];
    for (key, node) in doc.get("embeddings")?.map()? {
        let i = species(key, ne)?;
        embeddings[i] = Some(embedding(node).context(|| format!("embedding of {}", elements[i]))?);
    }
    let embeddings: Vec<Embedding> = embeddings
        .into_iter()
        .enumerate()
        .map(|(i, e)| e.ok_or_else(|| Error::bad(format!("no embedding for {}", elements[i]))))
        .collect::<Result<_>>()?;

    let mut bonds: Vec<Option<Bond>> = vec![None; ne * ne];
    let mut inner = None;
    for (key, node) in doc.get("bonds")?.map()? {
        let pair = key.seq()?;
        if pair.len() != 2 {
            return Err(Error::bad("a bond's key must be two species"));
        }
        let (i, j) = (species(&pair[0], ne)?, species(&pair[1], ne)?);
        let (b, kind) = bond(node).context(|| format!("bond {}-{}", elements[i], elements[j]))?;
        if *inner.get_or_insert(kind) != kind {
            return Err(Error::Unsupported("bonds with different inner_cutoff_type".into()));
        }
        bonds[i * ne + j] = Some(b);
    }
    let bonds = bonds
        .into_iter()
        .enumerate()
        .map(|(k, b)| b.ok_or_else(|| Error::bad(format!("no bond [{}, {}]", k / ne, k % ne))))
        .collect::<Result<_>>()?;

    let mut functions: Vec<Vec<BasisFunction>> = vec![Vec::new(); ne];
    for (key, node) in doc.get("functions")?.map()? {
        let i = species(key, ne)?;
        for (k, f) in node.seq()?.iter().enumerate() {
            let f = function(f, ne, embeddings[i].ndensity).context(|| format!("function {k} of {}", elements[i]))?;
            functions[i].push(f);
        }
        // Those of one neighbour first; otherwise in the order of the file.
        functions[i].sort_by_key(|f| f.rank() > 1);
    }
    Ok(Model {
        elements,
        e0,
        delta_spline: doc.get("deltaSplineBins")?.f64()?,
        inner: inner.unwrap_or(InnerCutoff::Density),
        embeddings,
        bonds,
        functions,
        is_b_basis: false,
    })
}

fn species(node: &Node, ne: usize) -> Result<usize> {
    let i = node.usize(usize::MAX >> 1)?;
    if i >= ne {
        return Err(Error::bad(format!("species {i}, but there are {ne} elements")));
    }
    Ok(i)
}

fn embedding(node: &Node) -> Result<Embedding> {
    Ok(Embedding {
        kind: Embedding::parse_kind(node.get("npoti")?.str()?)?,
        ndensity: node.get("ndensity")?.usize(MAX_DENSITIES)?,
        parameters: node.get("FS_parameters")?.floats()?,
        rho_cut: node.get("rho_core_cutoff")?.f64()?,
        drho_cut: node.get("drho_core_cutoff")?.f64()?,
    })
}

fn bond(node: &Node) -> Result<(Bond, InnerCutoff)> {
    let name = node.get("radbasename")?.str()?;
    let (nradmax, nradbase) = (node.get("nradmax")?.usize(MAX_N)?, node.get("nradbasemax")?.usize(MAX_N)?);
    let lmax = node.get("lmax")?.usize(MAX_L)?;
    let number = |key: &str| node.get(key)?.f64().context(|| key.into());
    let optional = |key: &str| node.find(key).map_or(Ok(0.0), |n| n.f64().context(|| key.into()));
    let basis = RadialBasis::parse(name)?;
    let crad = radcoefficients(node.get("radcoefficients")?, nradmax, lmax, nradbase)?;
    let lambda = node.get("radparameters")?.floats()?.first().copied();
    let b = Bond {
        nradmax,
        lmax,
        nradbase,
        basis,
        lambda: lambda.ok_or_else(|| Error::bad("radparameters is empty"))?,
        crad,
        prehc: number("prehc")?,
        lambdahc: number("lambdahc")?,
        rcut: number("rcut")?,
        dcut: number("dcut")?,
        r_in: optional("rcut_in")?,
        delta_in: optional("dcut_in")?,
    };
    let inner = node.find("inner_cutoff_type").map_or(Ok("density"), Node::str)?;
    Ok((b, InnerCutoff::parse(inner)?))
}

/// The list `[n][l][k]`, cut to what the bond declares.
pub(super) fn radcoefficients(node: &Node, nradmax: usize, lmax: usize, nradbase: usize) -> Result<Vec<f64>> {
    let short = || Error::bad(format!("radcoefficients do not have the shape [{nradmax}][{}][{nradbase}]", lmax + 1));
    let mut out = Vec::with_capacity(nradmax * (lmax + 1) * nradbase);
    let outer = node.seq()?;
    for n in 0..nradmax {
        let by_l = outer.get(n).ok_or_else(short)?.seq()?;
        for l in 0..=lmax {
            let by_k = by_l.get(l).ok_or_else(short)?.seq()?;
            for k in 0..nradbase {
                out.push(by_k.get(k).ok_or_else(short)?.f64()?);
            }
        }
    }
    Ok(out)
}

fn function(node: &Node, ne: usize, nd: usize) -> Result<BasisFunction> {
    let rank = node.get("rank")?.usize(MAX_RANK)?;
    if rank == 0 {
        return Err(Error::bad("rank 0"));
    }
    if node.get("ndensity")?.usize(MAX_DENSITIES)? != nd {
        return Err(Error::bad("ndensity differs from the embedding's"));
    }
    let ms: Vec<i8> = node
        .get("ms_combs")?
        .ints()?
        .into_iter()
        .map(|m| i8::try_from(m).map_err(|_| Error::bad(format!("m = {m}"))))
        .collect::<Result<_>>()?;
    let f = BasisFunction {
        mus: node.get("mus")?.bytes(0, ne as i64 - 1, 0)?,
        ns: node.get("ns")?.bytes(1, MAX_N as i64, 1)?,
        ls: node.get("ls")?.bytes(0, MAX_L as i64, 0)?,
        ms,
        cg: Vec::new(),
        coef: node.get("ctildes")?.floats()?,
    };
    let terms = node.get("num_ms_combs")?.usize(usize::MAX >> 1)?;
    let rank_fits = f.mus.len() == rank && f.ns.len() == rank && f.ls.len() == rank;
    if !rank_fits || Some(f.ms.len()) != terms.checked_mul(rank) || Some(f.coef.len()) != terms.checked_mul(nd) {
        return Err(Error::bad(
            "the lengths of mus, ns, ls, ms_combs, ctildes do not fit rank, num_ms_combs, ndensity",
        ));
    }
    Ok(f)
}
