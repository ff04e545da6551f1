//! Numbers and texts as bytes: numbers in groups of seven bits (LEB128), lists and texts after their length.

/// A value that can be written as bytes and read again.
pub(in crate::clean) trait Code: Sized {
    fn put(&self, to: &mut Vec<u8>);

    /// Reads a value from the front of the bytes; `None` if they are not such a value.
    fn get(from: &mut &[u8]) -> Option<Self>;
}

/// Implements [`Code`] for a struct whose fields have it.
macro_rules! coded {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl $crate::clean::parts::code::Code for $type {
            fn put(&self, to: &mut Vec<u8>) {
                $($crate::clean::parts::code::Code::put(&self.$field, to);)*
            }

            fn get(from: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: $crate::clean::parts::code::Code::get(from)?),* })
            }
        }
    };
}
pub(in crate::clean) use coded;

impl Code for u64 {
    fn put(&self, to: &mut Vec<u8>) {
        let mut rest = *self;
        while rest >= 0x80 {
            to.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        to.push(rest as u8);
    }

    fn get(from: &mut &[u8]) -> Option<Self> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = from.split_first()?;
            *from = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

impl Code for usize {
    fn put(&self, to: &mut Vec<u8>) {
        (*self as u64).put(to);
    }

    fn get(from: &mut &[u8]) -> Option<Self> {
        u64::get(from)?.try_into().ok()
    }
}

impl Code for bool {
    fn put(&self, to: &mut Vec<u8>) {
        to.push(u8::from(*self));
    }

    fn get(from: &mut &[u8]) -> Option<Self> {
        match u8::get(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Code for u8 {
    fn put(&self, to: &mut Vec<u8>) {
        to.push(*self);
    }

    fn get(from: &mut &[u8]) -> Option<Self> {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        Some(*byte)
    }
}

impl Code for String {
    fn put(&self, to: &mut Vec<u8>) {
        self.len().put(to);
        to.extend_from_slice(self.as_bytes());
    }

    fn get(from: &mut &[u8]) -> Option<Self> {
        let length = usize::get(from)?;
        let (text, rest) = from.split_at_checked(length)?;
        *from = rest;
        Some(std::str::from_utf8(text).ok()?.to_owned())
    }
}

impl<T: Code> Code for Option<T> {
    fn put(&self, to: &mut Vec<u8>) {
        self.is_some().put(to);
        if let Some(value) = self {
            value.put(to);
        }
    }

    fn get(from: &mut &[u8]) -> Option<Self> {
        Some(if bool::get(from)? { Some(T::get(from)?) } else { None })
    }
}

impl<T: Code> Code for Vec<T> {
    fn put(&self, to: &mut Vec<u8>) {
        self.len().put(to);
        self.iter().for_each(|item| item.put(to));
    }

    fn get(from: &mut &[u8]) -> Option<Self> {
        // Every item takes a byte or more, so no length can ask for more memory than the bytes have.
        let length = usize::get(from).filter(|length| *length <= from.len())?;
        (0..length).map(|_| T::get(from)).collect()
    }
}

impl<A: Code, B: Code> Code for (A, B) {
    fn put(&self, to: &mut Vec<u8>) {
        self.0.put(to);
        self.1.put(to);
    }

    fn get(from: &mut &[u8]) -> Option<Self> {
        Some((A::get(from)?, B::get(from)?))
    }
}

impl Code for [usize; 2] {
    fn put(&self, to: &mut Vec<u8>) {
        self.iter().for_each(|number| number.put(to));
    }

    fn get(from: &mut &[u8]) -> Option<Self> {
        Some([usize::get(from)?, usize::get(from)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_is_got(value: Vec<(u64, Option<(String, bool)>)>, pair: [usize; 2], rest: Vec<u8>) {
            let mut bytes = Vec::new();
            value.put(&mut bytes);
            pair.put(&mut bytes);
            bytes.extend_from_slice(&rest);
            let mut from = bytes.as_slice();
            prop_assert_eq!(Vec::get(&mut from), Some(value));
            prop_assert_eq!(<[usize; 2]>::get(&mut from), Some(pair));
            prop_assert_eq!(from, rest.as_slice());
        }

        #[test]
        fn other_bytes_are_a_value_or_none(bytes: Vec<u8>) {
            let _ = Vec::<(u64, Option<(String, bool)>)>::get(&mut bytes.as_slice());
        }
    }

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        for (number, length) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (u64::MAX, 10)] {
            let mut bytes = Vec::new();
            number.put(&mut bytes);
            assert_eq!((bytes.len(), u64::get(&mut bytes.as_slice())), (length, Some(number)));
            assert_eq!(u64::get(&mut &bytes[..length - 1]), None);
        }
        assert_eq!(u64::get(&mut [[0xff; 9].as_slice(), &[2]].concat().as_slice()), None);
        assert_eq!(Vec::<u64>::get(&mut [0xff; 8].as_slice()), None);
    }
}
