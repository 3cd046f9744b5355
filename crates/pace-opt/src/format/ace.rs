// SPDX-License-Identifier: GPL-2.0-or-later
//! `.ace`: the older plain-text form of a c-tilde basis, for one element.

use crate::error::{Error, Result, limit};
use crate::model::{
    BasisFunction, Bond, Embedding, InnerCutoff, MAX_DENSITIES, MAX_FUNCTIONS, MAX_L, MAX_N, MAX_RANK, Model,
    RadialBasis,
};

/// Largest number of terms of one function.
const MAX_TERMS: usize = 1_000_000;

pub(super) fn parse(text: &str) -> Result<Model> {
    // A header in free format may precede the data.
    let start = text.find("nelements").ok_or_else(|| Error::bad("`nelements=` is missing"))?;
    let mut t = Tokens::new(&text[start..]);
    t.expect("nelements")?;
    if t.size("nelements", usize::MAX >> 1)? != 1 {
        return Err(Error::bad("an .ace file has one element; for more, use a .yace file"));
    }
    t.expect("elements")?;
    let element = t.word("elements")?.to_owned();
    t.expect("lmax")?;
    let lmax = t.size("lmax", MAX_L)?;
    let named = t.accept("embedding-function");
    let kind = if named {
        Embedding::parse_kind(t.word("embedding-function")?)?
    } else {
        Embedding::parse_kind("FinnisSinclair")?
    };
    let np = t.size("number of FS parameters", 2 * MAX_DENSITIES)?;
    t.expect("FS")?;
    t.expect("parameters")?;
    let parameters = t.floats("FS parameters", np)?;
    if !named && parameters.iter().skip(1).step_by(2).any(|&m| m != 1.0) {
        return Err(Error::bad("a non-linear potential requires `embedding-function`"));
    }
    for w in ["core", "energy-cutoff", "parameters"] {
        t.expect(w)?;
    }
    let (rho_cut, drho_cut) = (t.float("rho_core_cutoff")?, t.float("drho_core_cutoff")?);
    let e0 = if t.accept("E0") { t.float("E0")? } else { 0.0 };
    t.expect("radbasename")?;
    let basis = match t.word("radbasename")? {
        name @ ("ChebExpCos" | "ChebPow") => RadialBasis::parse(name)?,
        other if other.starts_with("ACE.jl") => return Err(Error::Unsupported(format!("radial basis `{other}`"))),
        other => return Err(Error::bad(format!("radial basis `{other}` does not exist in .ace files"))),
    };
    t.expect("nradbase")?;
    let nradbase = t.size("nradbase", MAX_N)?;
    t.expect("nradmax")?;
    let nradmax = t.size("nradmax", MAX_N)?;
    t.expect("cutoffmax")?;
    t.float("cutoffmax")?;
    t.expect("deltaSplineBins")?;
    let delta_spline = t.float("deltaSplineBins")?;
    for w in ["core", "repulsion", "parameters"] {
        t.expect(w)?;
    }
    let (prehc, lambdahc) = (t.float("core repulsion")?, t.float("core repulsion")?);
    t.expect("radparameter")?;
    let lambda = t.float("radparameter")?;
    t.expect("cutoff")?;
    let rcut = t.float("cutoff")?;
    t.expect("dcut")?;
    let dcut = t.float("dcut")?;
    t.expect("crad")?;
    // In the file k is the outermost index.
    let mut crad = vec![0.0; nradmax * (lmax + 1) * nradbase];
    for k in 0..nradbase {
        for nl in 0..nradmax * (lmax + 1) {
            crad[nl * nradbase + k] = t.float("crad")?;
        }
    }
    t.expect("rankmax")?;
    t.size("rankmax", MAX_RANK)?;
    t.expect("ndensitymax")?;
    let nd = t.size("ndensitymax", MAX_DENSITIES)?;
    t.expect("num_c_tilde_max")?;
    t.word("num_c_tilde_max")?;
    t.expect("num_ms_combinations_max")?;
    t.word("num_ms_combinations_max")?;
    t.expect("total_basis_size_rank1")?;
    let n1 = t.size("total_basis_size_rank1", MAX_FUNCTIONS)?;
    let mut functions = Vec::new();
    for _ in 0..n1 {
        let f = function(&mut t, nd)?;
        if f.rank() != 1 {
            return Err(t.bad("total_basis_size_rank1 is larger than the number of functions of rank 1"));
        }
        functions.push(f);
    }
    t.expect("total_basis_size")?;
    let n2 = t.size("total_basis_size", MAX_FUNCTIONS)?;
    for _ in 0..n2 {
        let f = function(&mut t, nd)?;
        if f.rank() == 1 {
            return Err(t.bad("a function of rank 1 is not counted by total_basis_size_rank1"));
        }
        functions.push(f);
    }
    if t.accept("ctilde_basis_func") {
        return Err(t.bad("total_basis_size is smaller than the number of functions"));
    }
    let bond = Bond { nradmax, lmax, nradbase, basis, lambda, crad, prehc, lambdahc, rcut, dcut, ..Bond::none() };
    // Excess parameters are ignored, as in ML-PACE.
    let parameters = parameters.into_iter().take(2 * nd).collect();
    Ok(Model {
        elements: vec![element],
        e0: vec![e0],
        delta_spline,
        inner: InnerCutoff::Density,
        embeddings: vec![Embedding { kind, ndensity: nd, parameters, rho_cut, drho_cut }],
        bonds: vec![bond],
        functions: vec![functions],
        is_b_basis: false,
    })
}

fn function(t: &mut Tokens, nd: usize) -> Result<BasisFunction> {
    t.expect("ctilde_basis_func")?;
    t.expect("rank")?;
    let rank = t.size("rank", MAX_RANK)?;
    t.expect("ndens")?;
    if t.size("ndens", MAX_DENSITIES)? != nd {
        return Err(t.bad("ndens differs from ndensitymax"));
    }
    t.expect("mu0")?;
    let only = |t: &mut Tokens, what: &str| match t.size(what, usize::MAX >> 1)? {
        0 => Ok(0),
        v => Err(t.bad(format!("{what} = {v}, but there is one element"))),
    };
    only(t, "mu0")?;
    let list = |t: &mut Tokens, name: &str, max: usize, shift: usize| -> Result<Vec<u8>> {
        t.expect(name)?;
        (0..rank)
            .map(|_| {
                let v = t.size(name, max)?;
                v.checked_sub(shift).map(|v| v as u8).ok_or_else(|| t.bad(format!("{name} = {v}")))
            })
            .collect()
    };
    t.expect("mu")?;
    let mus = (0..rank).map(|_| only(t, "mu")).collect::<Result<_>>()?;
    let ns = list(t, "n", MAX_N, 1)?;
    let ls = list(t, "l", MAX_L, 0)?;
    t.expect("num_ms")?;
    let terms = t.size("num_ms", MAX_TERMS)?;
    let (mut ms, mut coef) = (Vec::new(), Vec::new());
    for _ in 0..terms {
        for _ in 0..rank {
            let m = t.word("m")?;
            ms.push(m.parse::<i8>().map_err(|_| t.bad(format!("m = `{m}`")))?);
        }
        coef.extend(t.floats("c-tilde", nd)?);
    }
    limit("terms of a function", terms, MAX_TERMS)?;
    Ok(BasisFunction { mus, ns, ls, ms, cg: Vec::new(), coef })
}

/// Words of the text, separated by white space and the punctuation `= ( ) < > : ,`.
struct Tokens<'a> {
    text: &'a str,
    position: usize,
    peeked: Option<&'a str>,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Self {
        Tokens { text, position: 0, peeked: None }
    }

    fn separates(b: u8) -> bool {
        b.is_ascii_whitespace() || matches!(b, b'=' | b'(' | b')' | b'<' | b'>' | b':' | b',')
    }

    fn peek(&mut self) -> Option<&'a str> {
        if self.peeked.is_none() {
            let bytes = self.text.as_bytes();
            let mut p = self.position;
            while p < bytes.len() && Self::separates(bytes[p]) {
                p += 1;
            }
            let start = p;
            while p < bytes.len() && !Self::separates(bytes[p]) {
                p += 1;
            }
            self.position = p;
            self.peeked = (start < p).then(|| &self.text[start..p]);
        }
        self.peeked
    }

    fn bad(&self, message: impl std::fmt::Display) -> Error {
        let line = self.text.as_bytes()[..self.position].iter().filter(|&&b| b == b'\n').count() + 1;
        Error::bad(format!("{message} (line {line} after the header)"))
    }

    fn word(&mut self, what: &str) -> Result<&'a str> {
        self.peek();
        self.peeked.take().ok_or_else(|| self.bad(format!("the file ends where {what} is expected")))
    }

    fn accept(&mut self, word: &str) -> bool {
        let hit = self.peek() == Some(word);
        if hit {
            self.peeked = None;
        }
        hit
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        let got = self.word(word)?;
        if got != word { Err(self.bad(format!("`{word}` is expected, not `{got}`"))) } else { Ok(()) }
    }

    fn float(&mut self, what: &str) -> Result<f64> {
        let w = self.word(what)?;
        match w.parse::<f64>() {
            Ok(v) if v.is_finite() => Ok(v),
            _ => Err(self.bad(format!("{what}: `{w}` is not a finite number"))),
        }
    }

    fn floats(&mut self, what: &str, n: usize) -> Result<Vec<f64>> {
        (0..n).map(|_| self.float(what)).collect()
    }

    fn size(&mut self, what: &str, max: usize) -> Result<usize> {
        let w = self.word(what)?;
        match w.parse::<usize>() {
            Ok(v) if v <= max => Ok(v),
            Ok(v) => Err(Error::Unsupported(format!("{what} = {v}, at most {max} is possible"))),
            Err(_) => Err(self.bad(format!("{what}: `{w}` is not a whole number"))),
        }
    }
}
