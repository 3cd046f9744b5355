// SPDX-License-Identifier: GPL-2.0-or-later
//! The trajectory of a part on the page: radial distribution functions, mean square displacements, and the last frame.

use std::path::Path;

use serde::Serialize;

use super::candidate::Picture;
use super::series::{Series, short};
use crate::analysis::{Displacements, NoDiffusion, RadialDistribution};
use crate::config::TrajectoryFormat;
use crate::io;
use crate::io::trajectory::{self, Frame};
use crate::script::GAMMA_COLUMN;
use crate::structure::Structure;

/// Largest number of frames that are read of a trajectory.
const FRAMES: usize = 300;
/// Largest number of atoms of all frames that are read of all parts.
const ATOMS: usize = 6_000_000;
/// Largest number of frames for the radial distribution functions, and of centres in each.
const RADIAL_FRAMES: usize = 50;
const CENTRES: usize = 2000;
/// Range of the radial distribution functions in Å: half of the height of the cell, within these limits.
const RANGE: (f64, f64) = (5.0, 10.0);
/// Width of their bins, Å.
const BIN: f64 = 0.05;
/// Largest number of pairs of elements that are shown.
const PAIRS: usize = 15;
/// Largest number of positions that are kept of each element for the displacements.
const POSITIONS: usize = 600_000;
/// Largest number of atoms in the pictures of all parts, and smallest limit for one.
const PICTURE: (usize, usize) = (5000, 500);

/// A trajectory on the page.
#[derive(Debug, Serialize)]
pub(super) struct View {
    /// What the file contains, and which part of it is used.
    summary: String,
    radial: Option<Radial>,
    /// Notes on the radial distribution functions: why there are none, or their limits.
    radial_note: String,
    displacement: Option<Displacement>,
    /// Notes on the displacements.
    displacement_note: String,
    /// The last frame.
    frame: Option<FrameView>,
}

/// Radial distribution functions.
#[derive(Debug, Serialize)]
pub(super) struct Radial {
    /// Å.
    pub(super) r: Vec<Option<f64>>,
    /// Name and function of each pair of elements.
    pub(super) pairs: Vec<(String, Vec<Option<f64>>)>,
}

/// Mean square displacements.
#[derive(Debug, Serialize)]
pub(super) struct Displacement {
    /// ps.
    pub(super) time: Vec<Option<f64>>,
    pub(super) elements: Vec<ElementView>,
}

/// The mean square displacement of an element.
#[derive(Debug, Serialize)]
pub(super) struct ElementView {
    pub(super) name: &'static str,
    /// Å².
    pub(super) msd: Vec<Option<f64>>,
    atoms: usize,
    /// The diffusion coefficient and its standard error in 1e-9 m²/s, as text; or why there is none.
    diffusion: String,
    /// The range of the fit, ps.
    fit: Option<[f64; 2]>,
}

/// A frame in three dimensions.
#[derive(Debug, Serialize)]
struct FrameView {
    caption: String,
    /// The largest γ of all atoms; `None` if γ is not in the file.
    most: Option<f64>,
    /// Index of the atom with the largest γ in the picture.
    center: Option<usize>,
    picture: Picture,
}

impl View {
    /// Reads the trajectory in the folder of a part, one of `parts`. `None` if there is none. `ramp` says that the temperature changes.
    /// A file that cannot be read becomes a note.
    pub(super) fn read(
        folder: &Path,
        series: &Series,
        parts: usize,
        ramp: bool,
        notes: &mut Vec<String>,
    ) -> Option<Self> {
        let formats = [TrajectoryFormat::Dump, TrajectoryFormat::Extxyz];
        let path = formats.iter().map(|format| folder.join(format.file())).find(|path| path.is_file())?;
        Self::of_file(&path, series, parts, ramp).unwrap_or_else(|error| {
            notes.push(format!("the trajectory is not shown: {error}"));
            None
        })
    }

    fn of_file(path: &Path, series: &Series, parts: usize, ramp: bool) -> Result<Option<Self>, io::Error> {
        let Some(mut trajectory) = trajectory::open(path, GAMMA_COLUMN)? else { return Ok(None) };
        let atoms = trajectory.atoms().max(1);
        let most = (ATOMS / parts.max(1) / atoms).clamp(2, FRAMES);
        let frames = trajectory.frames();
        let stride = frames.div_ceil(most as u64);
        let used = frames.div_ceil(stride) as usize;
        let every = used.div_ceil(RADIAL_FRAMES);
        let mut radial = RadialPart::default();
        let mut paths = Displacements::new(POSITIONS / used.max(1));
        let mut broken = None;
        let (mut read, mut last) = (0, 0);
        let spacing = trajectory.evenly(most, |number, frame: Frame| {
            if number % every == 0 {
                radial.add(&frame.structure);
            }
            if broken.is_none() {
                broken = paths.add(number, &frame.structure, frame.images.as_deref()).err();
            }
            (read, last) = (read + 1, frame.step);
            Ok::<_, io::Error>(())
        })?;
        let step = series.time_per_step();
        let time = |steps: i64| step.map(|step| steps as f64 * step);
        let shown = |steps: i64| time(steps).map_or(format!("{steps} steps"), |t| format!("{} ps", digits(t)));
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut summary =
            format!("{name}: {frames} frames of {atoms} atoms, one every {}.", shown(trajectory.interval()));
        if stride > 1 {
            summary += &format!(" Of them {read} are used, one every {}.", shown(spacing));
        }
        let (radial, radial_note) = radial.finish(every);
        let spacing = time(spacing).filter(|spacing| *spacing > 0.0);
        let (displacement, displacement_note) = match (broken, spacing) {
            (Some(error), _) => (None, format!("No displacements: {error}.")),
            (None, None) => (None, "No displacements: the time step is not known from the polls.".into()),
            _ if read < 2 => (None, "No displacements: there is one frame.".into()),
            (None, Some(spacing)) => displacement(&paths, spacing, ramp),
        };
        let frame =
            trajectory.last()?.map(|frame| FrameView::of(frame, (PICTURE.0 / parts.max(1)).max(PICTURE.1), &shown));
        Ok(Some(Self { summary, radial, radial_note, displacement, displacement_note, frame }))
    }

    pub(super) fn radial(&self) -> Option<&Radial> {
        self.radial.as_ref()
    }

    pub(super) fn displacement(&self) -> Option<&Displacement> {
        self.displacement.as_ref()
    }
}

/// The radial distribution functions, and why they end.
#[derive(Default)]
struct RadialPart {
    functions: Option<RadialDistribution>,
    /// The cell, in which images of the same atom are farther apart than this, Å; and whether not all atoms are centres.
    images: f64,
    sampled: bool,
    /// How often each element occurs in the first frame.
    counts: Vec<(u32, usize)>,
    broken: Option<String>,
}

impl RadialPart {
    fn add(&mut self, structure: &Structure) {
        if self.broken.is_some() {
            return;
        }
        if structure.cell.pbc != [true; 3] {
            self.broken = Some("the cell is not periodic in all directions, so that there is no mean density".into());
            return;
        }
        let functions = self.functions.get_or_insert_with(|| {
            self.images = structure.cell.heights().into_iter().fold(f64::INFINITY, f64::min);
            let range = (self.images / 2.0).clamp(RANGE.0, RANGE.1);
            // Whole bins.
            let bins = (range / BIN).floor();
            for i in 0..structure.len() {
                let number = structure.element(i).atomic_number();
                match self.counts.iter_mut().find(|(other, _)| *other == number) {
                    Some((_, count)) => *count += 1,
                    None => self.counts.push((number, 1)),
                }
            }
            RadialDistribution::new(bins * BIN, bins as usize)
        });
        let most = CENTRES / self.counts.len().max(1);
        self.sampled |= self.counts.iter().any(|(_, count)| *count > most);
        self.broken = functions.add(structure, most).err().map(|error| error.to_string());
    }

    fn finish(self, every: usize) -> (Option<Radial>, String) {
        if let Some(why) = self.broken {
            return (None, format!("No radial distribution functions: {why}."));
        }
        let Some(functions) = self.functions else { return (None, String::new()) };
        let mut note = format!("Mean of {} frames", functions.frames());
        if every > 1 {
            note += ", at equal distances";
        }
        if self.sampled {
            note += &format!("; around at most {} atoms of each element", CENTRES / self.counts.len());
        }
        note.push('.');
        let radii = functions.radii();
        let range = radii.last().copied().unwrap_or_default();
        if range > self.images / 2.0 {
            note += &format!(
                " Beyond {:.1} Å, half of the cell, periodic images of the same atoms occur together.",
                self.images / 2.0
            );
        }
        let mut pairs = functions.pairs();
        let count = |number: u32| self.counts.iter().find(|(other, _)| *other == number).map_or(0, |(_, count)| *count);
        if pairs.len() > PAIRS {
            note += &format!(" Shown are the {PAIRS} most frequent of {} pairs of elements.", pairs.len());
            pairs.sort_by_key(|pair| {
                std::cmp::Reverse(pair.elements.map(|e| count(e.atomic_number())).iter().product::<usize>())
            });
            pairs.truncate(PAIRS);
        }
        let column = |values: &[f64]| values.iter().map(|value| short(*value)).collect();
        let named = pairs.iter().map(|pair| (pair.elements.map(|e| e.symbol()).join("–"), column(&pair.g)));
        (Some(Radial { pairs: named.collect(), r: column(&radii) }), note)
    }
}

/// The displacements for frames at a distance of `spacing` ps.
fn displacement(paths: &Displacements, spacing: f64, ramp: bool) -> (Option<Displacement>, String) {
    let column = |values: &[f64]| values.iter().map(|value| short(*value)).collect::<Vec<_>>();
    let mut sampled = false;
    let elements = paths.by_element(spacing).into_iter().map(|element| {
        sampled |= element.atoms == paths.limit();
        let fit = element.diffusion.as_ref().ok().filter(|_| !ramp).map(|d| d.fit);
        let diffusion = match &element.diffusion {
            Ok(_) if ramp => "not determined: the temperature is ramped".to_owned(),
            // 1 Å²/ps = 1e-8 m²/s.
            Ok(d) => format!("{} · 10⁻⁹ m²/s", with_error(10.0 * d.coefficient, 10.0 * d.error)),
            Err(why @ NoDiffusion::TooShort { .. }) => {
                format!(
                    "not determined: {why} (a report uses at most {} million atoms in all frames)",
                    ATOMS / 1_000_000
                )
            }
            Err(why) => format!("not determined: {why}"),
        };
        ElementView { name: element.element.symbol(), msd: column(&element.msd), atoms: element.atoms, diffusion, fit }
    });
    let elements: Vec<ElementView> = elements.collect();
    let mut note = "Averaged over all origins of time, without the motion of the centre of mass.".to_owned();
    if sampled {
        note += &format!(" Of an element, at most {} atoms are used.", paths.limit());
    }
    if elements.iter().any(|element| element.fit.is_some()) {
        note += " The diffusion coefficient is a sixth of the slope, with the standard error of five parts of the trajectory; \
                 it is not corrected for the size of the cell.";
    }
    (Some(Displacement { time: column(&paths.times(spacing)), elements }), note)
}

/// A value and its standard error with as many digits as the error has, of which two are shown: `3.42 ± 0.11`.
fn with_error(value: f64, error: f64) -> String {
    let places = if error > 0.0 { (1.0 - error.log10().floor()).clamp(0.0, 12.0) as usize } else { 4 };
    format!("{value:.places$} ± {error:.places$}")
}

/// A number with at most six digits, without trailing zeros.
fn digits(value: f64) -> String {
    short(value).map_or("unknown".into(), |value| value.to_string())
}

impl FrameView {
    fn of(frame: Frame, limit: usize, shown: &dyn Fn(i64) -> String) -> Self {
        let n = frame.structure.len();
        let values = frame.values;
        // γ that is not finite is the largest.
        let order = |gamma: &[f64], i: usize| if gamma[i].is_nan() { f64::INFINITY } else { gamma[i] };
        let mut atoms: Vec<usize> = (0..n).collect();
        let mut caption = format!("The last frame, step {} ({})", frame.step, shown(frame.step));
        if n > limit {
            match &values {
                Some(gamma) => {
                    atoms.sort_by(|&a, &b| order(gamma, b).total_cmp(&order(gamma, a)));
                    atoms.truncate(limit);
                    atoms.sort_unstable();
                    caption += &format!(": the {limit} of {n} atoms with the largest γ");
                }
                None => {
                    atoms = (0..limit).map(|k| k * n / limit).collect();
                    caption += &format!(": {limit} of {n} atoms, evenly chosen");
                }
            }
        }
        caption.push('.');
        let worst = values.as_ref().and_then(|gamma| {
            (0..atoms.len()).max_by(|&a, &b| order(gamma, atoms[a]).total_cmp(&order(gamma, atoms[b])))
        });
        let most = values.as_ref().map(|gamma| gamma.iter().copied().filter(|g| g.is_finite()).fold(0.0, f64::max));
        let picture = Picture::of_frame(&frame.structure, &atoms, values.as_deref());
        Self { caption, most, center: worst, picture }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_two_digits() {
        assert_eq!(with_error(3.4217, 0.1138), "3.42 ± 0.11");
        assert_eq!(with_error(123.4, 23.0), "123 ± 23");
        assert_eq!(with_error(0.001_234, 0.000_056), "0.001234 ± 0.000056");
        assert_eq!(with_error(1.0, 0.0), "1.0000 ± 0.0000");
    }
}
