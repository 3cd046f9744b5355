// SPDX-License-Identifier: GPL-2.0-or-later
//! Force errors of labelled candidates: a table by trigger and element, and plots.

use std::collections::BTreeMap;

use serde::Serialize;

use super::calibration::calibration_plot;
use super::plots::{PlotError, diagonal};
use crate::calibration::{Calibration, Pair};
use crate::candidates::{ErrorOf, StoredCandidate, Trigger};

/// The coverage of the bound that is drawn if the settings name none.
const COVERAGE: f64 = 0.9;

/// Force errors on the core atoms of all labelled candidates with stored errors.
#[derive(Debug, Default)]
pub(super) struct ForceErrors {
    groups: BTreeMap<(String, &'static str), Sums>,
    /// γ in the run, and the error of the potential that ran.
    pairs: Vec<Pair>,
    /// Errors of the potential that ran and of the newest one, eV/Å.
    both: Vec<(f64, f64)>,
}

#[derive(Debug, Default)]
struct Sums {
    regions: usize,
    atoms: usize,
    /// Sums of squares of the potential that ran and of the newest one, and the number of atoms of the latter.
    run: f64,
    newest: f64,
    atoms_newest: usize,
    largest: f64,
}

/// A plot.
pub(super) struct Drawn {
    /// Name of its files, without the extension.
    pub(super) name: &'static str,
    pub(super) caption: &'static str,
    pub(super) svg: String,
    pub(super) png: Vec<u8>,
}

/// A row of the table.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    trigger: String,
    element: &'static str,
    regions: usize,
    atoms: usize,
    rmse: f64,
    largest: f64,
    newest: Option<f64>,
}

impl ForceErrors {
    pub(super) fn add(&mut self, row: &StoredCandidate) {
        let Some(errors) = row.errors(ErrorOf::Run) else { return };
        let newest = row.errors(ErrorOf::Newest).map(|errors| errors.forces);
        let candidate = &row.candidate;
        let trigger = candidate.keys.trigger.clone().unwrap_or(Trigger::Other("none".into()));
        let mut elements = Vec::new();
        for (at, error) in errors.forces.into_iter().enumerate().filter(|(_, error)| error.is_finite()) {
            let element = candidate.structure.element(at);
            let sums = self.groups.entry((trigger.as_str().to_owned(), element.symbol())).or_default();
            if !elements.contains(&element) {
                elements.push(element);
                sums.regions += 1;
            }
            sums.atoms += 1;
            sums.run += error * error;
            sums.largest = sums.largest.max(error);
            if let Some(newest) = newest.as_ref().map(|newest| newest[at]).filter(|newest| newest.is_finite()) {
                sums.newest += newest * newest;
                sums.atoms_newest += 1;
                self.both.push((error, newest));
            }
            if let Some(gamma) = candidate.atom_gamma.as_ref().map(|gamma| gamma[at]).filter(|gamma| gamma.is_finite())
            {
                self.pairs.push(Pair { region: row.id, element, trigger: trigger.clone(), gamma, error });
            }
        }
    }

    /// The table: trigger, element, numbers, and errors in eV/Å.
    pub(super) fn rows(&self) -> Vec<Row> {
        let row = |((trigger, element), sums): (&(String, &'static str), &Sums)| Row {
            trigger: trigger.clone(),
            element,
            regions: sums.regions,
            atoms: sums.atoms,
            rmse: (sums.run / sums.atoms as f64).sqrt(),
            largest: sums.largest,
            newest: (sums.atoms_newest > 0).then(|| (sums.newest / sums.atoms_newest as f64).sqrt()),
        };
        self.groups.iter().map(row).collect()
    }

    /// The plots; empty without errors. `tolerated` is a force error in eV/Å with its coverage.
    ///
    /// # Errors
    /// [`PlotError`].
    pub(super) fn plots(&self, tolerated: Option<(f64, f64)>) -> Result<Vec<Drawn>, PlotError> {
        let mut plots = Vec::new();
        if let Ok(calibration) = Calibration::fit(&self.pairs) {
            let coverage = tolerated.map_or(COVERAGE, |(_, coverage)| coverage);
            // Without the line at a threshold: that of a round is calibrated with its own potential only.
            let plot = calibration_plot(&self.pairs, &calibration, coverage, None)?;
            let caption = "Force error of the potential that ran against γ in the run, all rounds";
            plots.push(Drawn { name: "force-errors", caption, svg: plot.svg, png: plot.png });
        }
        if !self.both.is_empty() {
            let axes = ["force error of the potential that ran / eV/Å", "of the newest potential / eV/Å"];
            let (svg, png) = diagonal("force-errors-newest", axes, &self.both)?;
            let caption = "Force error before and after training";
            plots.push(Drawn { name: "force-errors-newest", caption, svg, png });
        }
        Ok(plots)
    }
}
