//! Map keys and values as aya takes them.

use lb_common::Plain;

/// A [`Plain`] type for aya's maps: aya asks for a trait of its own, and neither trait nor type is ours here.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Raw<T>(pub T);

// SAFETY: `Plain` promises what `Pod` asks for: no padding, any bit pattern is a value; the wrapper is transparent.
unsafe impl<T: Plain> aya::Pod for Raw<T> {}

/// The bytes of a plain value.
pub fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: `Plain` has no padding, so all of its bytes are initialised; the borrow keeps it alive.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The value at the start of `bytes`; `None` where they are too few.
pub fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: `Plain` allows every bit pattern; the length was checked, and the read need not be aligned.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_the_way_through_bytes() {
        let value = lb_common::table::Member {
            tag: 7,
            node: 3,
            ..Default::default()
        };
        assert_eq!(from_bytes(bytes_of(&value)), Some(value));
        assert_eq!(from_bytes::<lb_common::table::Member>(&[0; 15]), None);
    }
}
