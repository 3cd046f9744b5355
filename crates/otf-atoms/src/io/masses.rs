// SPDX-License-Identifier: GPL-2.0-or-later
//! Masses of a file against the elements that it names.

use crate::structure::{Element, standard_mass};

/// A mass may differ by this much from the standard atomic weight and still tell the element, u.
const TOLERANCE: f64 = 0.05;

/// A mass that differs from the standard atomic weight by more than this part of it was not rounded but chosen.
const ROUNDED: f64 = 0.01;

/// Hydrogen up to this mass (u) is hydrogen: it is made heavier on purpose, up to the mass of helium.
const HEAVY_HYDROGEN: f64 = 4.1;

/// The element whose standard atomic weight this mass is; `None` if it is near to none.
pub(super) fn element_of(mass: f64) -> Option<Element> {
    let nearest = Element::iter().min_by(|a, b| difference(*a, mass).total_cmp(&difference(*b, mass)));
    nearest.filter(|element| difference(*element, mass) <= TOLERANCE)
}

/// Compares an element with its mass in the file; the answer is what a user should know of a mass that is unusual.
///
/// # Errors
/// If the mass is that of another element.
pub(super) fn compare(element: Element, mass: f64) -> Result<Option<String>, String> {
    let (symbol, standard) = (element.symbol(), standard_mass(element));
    if difference(element, mass) <= TOLERANCE {
        return Ok(None);
    }
    match element_of(mass) {
        Some(other) if element != Element::H || mass > HEAVY_HYDROGEN => {
            Err(format!("its mass of {mass} u is that of {}, and {symbol} has {standard:.4} u", other.symbol()))
        }
        _ if difference(element, mass) <= ROUNDED * standard => Ok(None),
        _ => Ok(Some(format!("{symbol} has the mass that the file gives, {mass} u, not the standard {standard:.4} u"))),
    }
}

fn difference(element: Element, mass: f64) -> f64 {
    (standard_mass(element) - mass).abs()
}
