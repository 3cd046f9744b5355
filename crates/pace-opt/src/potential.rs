// SPDX-License-Identifier: GPL-2.0-or-later
//! Compiled potentials, shared between evaluators.

use crate::error::Result;
use crate::format::{ActiveSet, Format, read_bytes};
use crate::gamma::Grade;
use crate::model::Model;
use crate::plan::Plan;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A compiled potential. Immutable; share it with [`Arc`].
#[derive(Debug)]
pub struct Potential {
    pub(crate) plan: Plan,
    pub(crate) grade: Option<Grade>,
    elements: Vec<String>,
    functions: Vec<usize>,
}

/// Sizes of a compiled potential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Number of basis functions.
    pub functions: usize,
    /// Number of nodes of the atomic base.
    pub base: usize,
    /// Number of products that are factors of other products.
    pub interior: usize,
    /// Number of terms of the densities.
    pub terms: usize,
    /// Size of the spline tables in bytes.
    pub table_bytes: usize,
}

/// Identity of the files of a potential: two hashes of their contents, and their lengths.
type Fingerprint = (u64, u64, usize, usize);

/// Potentials in use in this process.
static SHARED: Mutex<Option<HashMap<Fingerprint, Weak<Potential>>>> = Mutex::new(None);

impl Potential {
    /// Compiles a model. The extrapolation grade requires an active set.
    ///
    /// # Errors
    /// If the tables would be too large, or an element with ZBL repulsion is not a chemical element.
    ///
    /// # Panics
    /// If a model or active set that was not made by [`Model::parse`] or [`ActiveSet::parse`] is inconsistent.
    pub fn new(model: &Model, active_set: Option<&ActiveSet>) -> Result<Self> {
        let plan = Plan::new(model, active_set.is_some())?;
        Ok(Potential {
            plan,
            grade: active_set.map(Grade::new),
            elements: model.elements.clone(),
            functions: model.functions.iter().map(Vec::len).collect(),
        })
    }

    /// Reads a potential and, if given, its active set.
    ///
    /// Returns the potential that is already in use if one was read from files of the same contents.
    ///
    /// # Errors
    /// If a file cannot be read, is malformed, or requires an unsupported feature.
    pub fn read(path: &Path, active_set: Option<&Path>) -> Result<Arc<Self>> {
        let format = Format::of(path)?;
        let bytes = read_bytes(path)?;
        let asi = active_set.map(read_bytes).transpose()?;
        let key = fingerprint(format, &bytes, asi.as_deref());
        let lookup = |map: &HashMap<Fingerprint, Weak<Potential>>| map.get(&key).and_then(Weak::upgrade);
        if let Some(found) = SHARED.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(lookup) {
            return Ok(found);
        }
        let model = Model::parse(format, &bytes).map_err(|e| e.at(path))?;
        let set = match (&asi, active_set) {
            (Some(b), Some(p)) => Some(ActiveSet::parse(b, &model).map_err(|e| e.at(p))?),
            _ => None,
        };
        let made = Arc::new(Potential::new(&model, set.as_ref()).map_err(|e| e.at(path))?);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let map = shared.get_or_insert_default();
        map.retain(|_, w| w.strong_count() > 0);
        map.insert(key, Arc::downgrade(&made));
        Ok(made)
    }

    /// Chemical symbols, in the order of element indices.
    pub fn elements(&self) -> &[String] {
        &self.elements
    }

    /// Largest cutoff in Å.
    pub fn cutoff(&self) -> f64 {
        self.plan.cutoff
    }

    /// Cutoff in Å for neighbours of element `j` around an atom of element `i`; zero for unknown elements.
    pub fn pair_cutoff(&self, i: usize, j: usize) -> f64 {
        self.plan.species.get(i).and_then(|s| s.segments().get(j)).map_or(0.0, |s| s.rcut)
    }

    /// Whether an active set was read, so that the extrapolation grade can be computed.
    pub fn has_grade(&self) -> bool {
        self.grade.is_some()
    }

    /// Sizes, summed over elements.
    pub fn size(&self) -> Size {
        let mut s =
            Size { functions: self.functions.iter().sum(), table_bytes: self.plan.table_bytes, ..Size::default() };
        for p in &self.plan.species {
            s.base += p.graph().base();
            s.interior += p.graph().interior().len();
            s.terms += p.graph().by_x().partner.len();
        }
        s
    }
}

fn fingerprint(format: Format, bytes: &[u8], asi: Option<&[u8]>) -> Fingerprint {
    let hash = |salt: u64| {
        let mut h = DefaultHasher::new();
        h.write_u64(salt);
        h.write_u8(format as u8);
        h.write(bytes);
        h.write_u8(u8::from(asi.is_some()));
        h.write(asi.unwrap_or_default());
        h.finish()
    };
    (hash(0), hash(0x9e37_79b9_7f4a_7c15), bytes.len(), asi.map_or(0, <[u8]>::len))
}
