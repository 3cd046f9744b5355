// SPDX-License-Identifier: GPL-2.0-or-later
//! Comparison of the masses in a file with its elements.

use crate::structure::{Element, standard_mass};

/// Largest difference of a mass from the standard atomic weight of an element by which the element is identified, u.
const TOLERANCE: f64 = 0.05;

/// Largest relative difference of a mass from the standard atomic weight that is attributed to rounding.
const ROUNDING: f64 = 0.01;

/// Largest mass accepted for hydrogen, u. Hydrogen mass repartitioning and deuterium give masses up to that of helium.
const HEAVY_HYDROGEN: f64 = 4.1;

/// The element with this mass (u) as its standard atomic weight, within the tolerance; `None` if there is none.
pub(super) fn element_of(mass: f64) -> Option<Element> {
    let nearest = Element::iter().min_by(|a, b| difference(*a, mass).total_cmp(&difference(*b, mass)));
    nearest.filter(|element| difference(*element, mass) <= TOLERANCE)
}

/// Compares an element with its mass in the file (u). Returns a warning for a mass that is not the standard one.
///
/// # Errors
/// A message if the mass is that of another element.
pub(super) fn compare(element: Element, mass: f64) -> Result<Option<String>, String> {
    let (symbol, standard) = (element.symbol(), standard_mass(element));
    if difference(element, mass) <= TOLERANCE {
        return Ok(None);
    }
    match element_of(mass) {
        Some(other) if element != Element::H || mass > HEAVY_HYDROGEN => {
            Err(format!("its mass of {mass} u is that of {}, and {symbol} has {standard:.4} u", other.symbol()))
        }
        _ if difference(element, mass) <= ROUNDING * standard => Ok(None),
        _ => Ok(Some(format!("the mass of {symbol} is {mass} u, as in the file, not the standard {standard:.4} u"))),
    }
}

fn difference(element: Element, mass: f64) -> f64 {
    (standard_mass(element) - mass).abs()
}
