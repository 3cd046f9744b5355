// SPDX-License-Identifier: MIT
//! A vector that is kept in order: the part of the interface of sorted-vec 0.8 that kiddo uses, written anew.
//!
//! The crate of that name is licensed under Apache-2.0 alone, which cannot be linked with LAMMPS (GPL-2.0 only);
//! everything else that kiddo needs can.

use std::ops::Deref;

/// A vector whose elements are in ascending order. Elements of [`Vec`]'s shared interface are reached by `Deref`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortedVec<T: Ord>(Vec<T>);

impl<T: Ord> SortedVec<T> {
    /// Empty, with room for `capacity` elements.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Sorts `elements`; equal ones keep their order.
    #[must_use]
    pub fn from_unsorted(mut elements: Vec<T>) -> Self {
        elements.sort();
        Self(elements)
    }

    /// Puts `element` into its place, after those that equal it; returns the place.
    pub fn insert(&mut self, element: T) -> usize {
        let place = self.0.partition_point(|other| *other <= element);
        self.0.insert(place, element);
        place
    }

    /// [`SortedVec::insert`], under the name that says that the largest is added most often.
    pub fn push(&mut self, element: T) -> usize {
        self.insert(element)
    }

    /// Takes the largest.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// The elements, in order.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }

    /// Lets `change` do what it likes with the elements, and sorts them again.
    pub fn mutate_vec<R>(&mut self, change: impl FnOnce(&mut Vec<T>) -> R) -> R {
        let result = change(&mut self.0);
        self.0.sort();
        result
    }
}

impl<T: Ord> Default for SortedVec<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Ord> Deref for SortedVec<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T: Ord> IntoIterator for SortedVec<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::SortedVec;

    #[test]
    fn stays_in_order() {
        let mut numbers = SortedVec::from_unsorted(vec![5, 1, 3]);
        assert_eq!(numbers.insert(3), 2);
        assert_eq!(numbers.push(9), 4);
        assert_eq!((numbers.pop(), numbers.last()), (Some(9), Some(&5)));
        numbers.mutate_vec(|v| v.push(0));
        assert_eq!(numbers.into_vec(), [0, 1, 3, 3, 5]);
    }
}
