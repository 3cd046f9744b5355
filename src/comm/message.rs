// SPDX-License-Identifier: GPL-2.0-or-later
//! Values that ranks send to each other, as bytes of a fixed layout.
//!
//! The layout is written field by field, without padding, in little-endian order. No byte of a value is reinterpreted, so that no
//! `unsafe` and no MPI datatype is needed. All ranks of a job run the same build.

/// Plain data that can be sent to other ranks: integers, floating-point numbers, arrays and options of these, and structs declared
/// with `message!`.
///
/// This trait is sealed.
pub trait Message: Copy + 'static + sealed::Sealed {
    /// Encoded size in bytes.
    #[doc(hidden)]
    const SIZE: usize;

    /// Appends the encoded value.
    #[doc(hidden)]
    fn encode(self, bytes: &mut Vec<u8>);

    /// Removes the encoded value from the start of `bytes`.
    #[doc(hidden)]
    fn decode(bytes: &mut &[u8]) -> Self;
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// Implements [`Message`] for a struct. All fields must be listed.
macro_rules! message {
    ($name:ident { $($field:ident: $kind:ty),+ $(,)? }) => {
        impl $crate::comm::message::sealed::Sealed for $name {}

        impl $crate::comm::Message for $name {
            const SIZE: usize = 0 $(+ <$kind as $crate::comm::Message>::SIZE)+;

            fn encode(self, bytes: &mut Vec<u8>) {
                let Self { $($field),+ } = self;
                $(<$kind as $crate::comm::Message>::encode($field, bytes);)+
            }

            fn decode(bytes: &mut &[u8]) -> Self {
                Self { $($field: <$kind as $crate::comm::Message>::decode(bytes)),+ }
            }
        }
    };
}
pub(crate) use message;

macro_rules! number {
    ($($kind:ty),+) => {$(
        impl sealed::Sealed for $kind {}

        impl Message for $kind {
            const SIZE: usize = size_of::<$kind>();

            fn encode(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn decode(bytes: &mut &[u8]) -> Self {
                let (number, rest) = bytes.split_first_chunk().expect("a whole number of values");
                *bytes = rest;
                Self::from_le_bytes(*number)
            }
        }
    )+};
}

number!(u8, i32, u32, i64, u64, f64);

impl<T: Message, const N: usize> sealed::Sealed for [T; N] {}

impl<T: Message, const N: usize> Message for [T; N] {
    const SIZE: usize = N * T::SIZE;

    fn encode(self, bytes: &mut Vec<u8>) {
        for value in self {
            value.encode(bytes);
        }
    }

    fn decode(bytes: &mut &[u8]) -> Self {
        std::array::from_fn(|_| T::decode(bytes))
    }
}

impl<T: Message> sealed::Sealed for Option<T> {}

impl<T: Message> Message for Option<T> {
    const SIZE: usize = 1 + T::SIZE;

    fn encode(self, bytes: &mut Vec<u8>) {
        u8::from(self.is_some()).encode(bytes);
        match self {
            Some(value) => value.encode(bytes),
            None => bytes.resize(bytes.len() + T::SIZE, 0),
        }
    }

    fn decode(bytes: &mut &[u8]) -> Self {
        let is_some = u8::decode(bytes) != 0;
        let (mut value, rest) = bytes.split_at(T::SIZE);
        *bytes = rest;
        is_some.then(|| T::decode(&mut value))
    }
}

/// The encoded values, one after the other.
pub(super) fn encode<T: Message>(values: &[T]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * T::SIZE);
    values.iter().for_each(|value| value.encode(&mut bytes));
    bytes
}

/// The values that [`encode`] wrote.
///
/// # Panics
/// If the number of bytes is not a multiple of the encoded size.
pub(super) fn decode<T: Message>(mut bytes: &[u8]) -> Vec<T> {
    let mut values = Vec::with_capacity(bytes.len() / T::SIZE.max(1));
    while !bytes.is_empty() {
        values.push(T::decode(&mut bytes));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Row {
        id: i64,
        gamma: Option<f64>,
        force: Option<[f64; 3]>,
        position: [f64; 3],
    }
    message!(Row { id: i64, gamma: Option<f64>, force: Option<[f64; 3]>, position: [f64; 3] });

    #[test]
    fn decoding_returns_what_was_encoded() {
        let rows = [
            Row { id: i64::MAX - 1, gamma: Some(-0.0), force: None, position: [1.0, f64::MIN_POSITIVE, 1e300] },
            Row { id: i64::MIN, gamma: None, force: Some([0.1, f64::INFINITY, -2.5]), position: [0.0; 3] },
        ];
        let bytes = encode(&rows);
        // Ids stay integers, and there is no padding.
        assert_eq!(bytes.len(), rows.len() * Row::SIZE);
        assert_eq!(Row::SIZE, 8 + 9 + 25 + 24);
        assert_eq!(decode::<Row>(&bytes), rows);
        assert!(decode::<Row>(&[]).is_empty());
        let numbers = [u64::MAX, 1 << 53 | 1];
        assert_eq!(decode::<u64>(&encode(&numbers)), numbers, "an f64 could not hold these");
    }

    #[test]
    #[should_panic(expected = "a whole number of values")]
    fn a_truncated_message_is_refused() {
        decode::<f64>(&encode(&[1.0])[..7]);
    }
}
