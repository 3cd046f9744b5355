// SPDX-License-Identifier: GPL-2.0-or-later
//! `.yace`: a c-tilde basis as YAML.

use super::yaml::{self, Context, Node};
use crate::error::{Error, Result, limit};
use crate::model::{
    BasisFunction, Bond, Embedding, InnerCutoff, MAX_DENSITIES, MAX_ELEMENTS, MAX_L, MAX_N, MAX_RANK, Model,
    PairPotential, Polynomials, RadialBasis,
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
        let e = embedding(node).context(|| format!("embedding of {}", elements[i]))?;
        if embeddings[i].replace(e).is_some() {
            return Err(Error::bad(format!("the embedding of {} is given twice", elements[i])));
        }
    }
    let embeddings: Vec<Embedding> = embeddings
        .into_iter()
        .enumerate()
        .map(|(i, e)| e.ok_or_else(|| Error::bad(format!("no embedding for {}", elements[i]))))
        .collect::<Result<_>>()?;

    let mut bonds: Vec<Option<Bond>> = vec![None; ne * ne];
    let mut inner = InnerCutoff::Density;
    let ace_jl = AceJl::find(&doc)?;
    for (key, node) in doc.get("bonds")?.map()? {
        let (i, j) = pair_of(key, ne)?;
        let read = || match &ace_jl {
            Some(ace_jl) => Ok((ace_jl.bond(node, i, j, ne)?, InnerCutoff::Density)),
            None => bond(node),
        };
        let (b, kind) = read().context(|| format!("bond {}-{}", elements[i], elements[j]))?;
        // ML-PACE evaluates all bonds with the type of the last one.
        if i * ne + j + 1 == ne * ne {
            inner = kind;
        }
        if bonds[i * ne + j].replace(b).is_some() {
            return Err(Error::bad(format!("the bond {}-{} is given twice", elements[i], elements[j])));
        }
    }
    let bonds = bonds
        .into_iter()
        .enumerate()
        .map(|(k, b)| b.ok_or_else(|| Error::bad(format!("no bond [{}, {}]", k / ne, k % ne))))
        .collect::<Result<_>>()?;

    let mut functions: Vec<Vec<BasisFunction>> = vec![Vec::new(); ne];
    for (key, node) in doc.get("functions")?.map()? {
        let i = species(key, ne)?;
        if !functions[i].is_empty() {
            return Err(Error::bad(format!("the functions of {} are given twice", elements[i])));
        }
        for (k, f) in node.seq()?.iter().enumerate() {
            let f =
                function(f, i, ne, embeddings[i].ndensity).context(|| format!("function {k} of {}", elements[i]))?;
            functions[i].push(f);
        }
        // Functions of one neighbour first, otherwise in the order of the file.
        functions[i].sort_by_key(|f| f.rank() > 1);
    }
    Ok(Model {
        elements,
        e0,
        delta_spline: match &ace_jl {
            Some(_) => AceJl::DELTA_SPLINE,
            None => doc.get("deltaSplineBins")?.f64()?,
        },
        inner,
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

/// The two species indices of a key.
fn pair_of(key: &Node, ne: usize) -> Result<(usize, usize)> {
    match key.seq()? {
        [i, j] => Ok((species(i, ne)?, species(j, ne)?)),
        _ => Err(Error::bad("the key must be two species")),
    }
}

/// The parts of a file of ACE.jl (ACE1pack) that hold for all bonds.
struct AceJl<'a, 'b> {
    lmax: usize,
    /// Largest cutoff, which ML-PACE uses for all pairs.
    rcut: f64,
    pair: Option<&'a Node<'b>>,
    repulsion: Option<&'a Node<'b>>,
}

impl<'a, 'b> AceJl<'a, 'b> {
    /// Bin width of the splines in Å. ML-PACE evaluates the polynomials directly; cubic splines of this width agree to 1e-10.
    /// Cutoffs that are multiples of it, where the polynomials' derivatives have a kink, are on a bin edge.
    const DELTA_SPLINE: f64 = 2.5e-4;

    /// Returns `None` for a file of pacemaker.
    fn find(doc: &'a Node<'b>) -> Result<Option<Self>> {
        let bonds = doc.get("bonds")?.map()?;
        let mut own = 0;
        for (_, node) in bonds {
            own += usize::from(node.get("radbasename")?.str()?.starts_with("ACE.jl"));
        }
        if own == 0 {
            return Ok(None);
        }
        if own < bonds.len() {
            return Err(Error::bad("some bonds have a radial basis of ACE.jl, some another one"));
        }
        let pair = doc.find("polypairpot");
        let mut rcut: f64 = 0.0;
        for node in bonds.iter().map(|(_, node)| node).chain(pair) {
            rcut = rcut.max(node.get("rcut")?.f64()?);
        }
        let repulsion = doc.find("reppot").and_then(|n| n.find("coefficients"));
        Ok(Some(AceJl { lmax: doc.size("lmax", MAX_L)?, rcut, pair, repulsion }))
    }

    fn bond(&self, node: &Node, i: usize, j: usize, ne: usize) -> Result<Bond> {
        let polynomials = polynomials(node)?;
        let n = polynomials.recursion.len();
        let lmax = self.lmax;
        // The radial functions are the polynomials, the same for all l.
        let row = |k: usize| (0..n).map(move |c| f64::from(u8::from(c == k)));
        Ok(Bond {
            nradmax: n,
            lmax,
            nradbase: n,
            basis: RadialBasis::AceJl,
            crad: (0..n).flat_map(|k| (0..=lmax).flat_map(move |_| row(k))).collect(),
            rcut: self.rcut,
            polynomials: Some(polynomials),
            pair: self
                .pair
                .map(|pair| self.pair_potential(pair, i, j, ne).context(|| "polypairpot".into()))
                .transpose()?,
            ..Bond::none()
        })
    }

    fn pair_potential(&self, node: &Node, i: usize, j: usize, ne: usize) -> Result<PairPotential> {
        let of_pair = |list: &'a Node<'b>| -> Result<Option<&'a Node<'b>>> {
            for (key, value) in list.map()? {
                if pair_of(key, ne)? == (i, j) {
                    return Ok(Some(value));
                }
            }
            Ok(None)
        };
        let polynomials = polynomials(node)?;
        let list = self.pair.map(|pair| pair.get("coefficients")).transpose()?;
        let coefficients = list.map(of_pair).transpose()?.flatten();
        let coefficients = coefficients.ok_or_else(|| Error::bad("it has no coefficients for this pair"))?.floats()?;
        if coefficients.len() < polynomials.recursion.len() {
            return Err(Error::bad(format!(
                "{} coefficients for {} polynomials",
                coefficients.len(),
                polynomials.recursion.len()
            )));
        }
        let core = self.repulsion.map(of_pair).transpose()?.flatten();
        let number = |key: &str| core.map_or(Ok(0.0), |n| n.get(key)?.f64().context(|| key.into()));
        Ok(PairPotential {
            polynomials,
            coefficients,
            ri: number("ri")?,
            e0: number("e0")?,
            a: number("A")?,
            b: number("B")?,
        })
    }
}

fn polynomials(node: &Node) -> Result<Polynomials> {
    let number = |key: &str| node.get(key)?.f64().context(|| key.into());
    let exponent = |key: &str| {
        let n = node.get(key)?.int().context(|| key.into())?;
        i32::try_from(n).ok().filter(|n| (0..=64).contains(n)).ok_or_else(|| Error::bad(format!("{key} = {n}")))
    };
    let lists = node.get("recursion_coefficients")?;
    let [a, b, c] = [lists.get("A")?.floats()?, lists.get("B")?.floats()?, lists.get("C")?.floats()?];
    let n = node.size("maxn", MAX_N)?;
    if n == 0 || [a.len(), b.len(), c.len()] != [n; 3] {
        return Err(Error::bad(format!("recursion_coefficients do not have maxn = {n} values each")));
    }
    Ok(Polynomials {
        p: exponent("p")?,
        r0: number("r0")?,
        xl: number("xl")?,
        xr: number("xr")?,
        pl: exponent("pl")?,
        pr: exponent("pr")?,
        recursion: (0..n).map(|k| [a[k], b[k], c[k]]).collect(),
    })
}

fn embedding(node: &Node) -> Result<Embedding> {
    let ndensity = node.size("ndensity", MAX_DENSITIES)?;
    // Excess parameters are ignored, as in ML-PACE.
    let mut parameters = node.get("FS_parameters")?.floats()?;
    parameters.truncate(2 * ndensity);
    Ok(Embedding {
        kind: Embedding::parse_kind(node.get("npoti")?.str()?)?,
        ndensity,
        parameters,
        rho_cut: node.get("rho_core_cutoff")?.f64()?,
        drho_cut: node.get("drho_core_cutoff")?.f64()?,
    })
}

fn bond(node: &Node) -> Result<(Bond, InnerCutoff)> {
    let name = node.get("radbasename")?.str()?;
    let (nradmax, nradbase) = (node.size("nradmax", MAX_N)?, node.size("nradbasemax", MAX_N)?);
    let lmax = node.size("lmax", MAX_L)?;
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
        ..Bond::none()
    };
    let inner = node.find("inner_cutoff_type").map_or(Ok("density"), Node::str)?;
    Ok((b, InnerCutoff::parse(inner)?))
}

/// The list `[n][l][k]`, truncated to the sizes that the bond declares.
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

fn function(node: &Node, mu0: usize, ne: usize, nd: usize) -> Result<BasisFunction> {
    if node.find("mu0").map_or(Ok(mu0), |n| species(n, ne))? != mu0 {
        return Err(Error::bad("mu0 is not the species under which the function is listed"));
    }
    let rank = node.size("rank", MAX_RANK)?;
    if rank == 0 {
        return Err(Error::bad("rank 0"));
    }
    if node.size("ndensity", MAX_DENSITIES)? != nd {
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
    let terms = node.size("num_ms_combs", usize::MAX >> 1)?;
    let rank_fits = f.mus.len() == rank && f.ns.len() == rank && f.ls.len() == rank;
    if !rank_fits || Some(f.ms.len()) != terms.checked_mul(rank) || Some(f.coef.len()) != terms.checked_mul(nd) {
        return Err(Error::bad(
            "the lengths of mus, ns, ls, ms_combs, ctildes do not fit rank, num_ms_combs, ndensity",
        ));
    }
    Ok(f)
}
