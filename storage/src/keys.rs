//! Under which bytes does an id stand, so that the table's order is the order of ids?
//!
//! A document id becomes a tag byte (0 integer, 1 string) and its value. Integers are written with the sign bit flipped
//! and the highest byte first, strings as they are; so comparing the bytes compares the ids.

use crate::ids::DocumentId;

const INTEGER: u8 = 0;
const TEXT: u8 = 1;
const SIGN: u64 = 1 << 63;

/// The key of a document id.
pub(crate) fn encode_id(id: &DocumentId) -> Vec<u8> {
    match id {
        DocumentId::Integer(number) => {
            let flipped = number.cast_unsigned() ^ SIGN;
            let highest_first = (0..8).rev().map(|byte| (flipped >> (8 * byte)) as u8);
            std::iter::once(INTEGER).chain(highest_first).collect()
        }
        DocumentId::Text(text) => std::iter::once(TEXT).chain(text.bytes()).collect(),
    }
}

/// The id of a key; `None` where the bytes are no key.
pub(crate) fn decode_id(key: &[u8]) -> Option<DocumentId> {
    match key.split_first()? {
        (&INTEGER, digits) if digits.len() == 8 => {
            let flipped = digits.iter().fold(0_u64, |number, &digit| number << 8 | u64::from(digit));
            Some(DocumentId::Integer((flipped ^ SIGN).cast_signed()))
        }
        (&TEXT, text) if !text.is_empty() => Some(DocumentId::Text(std::str::from_utf8(text).ok()?.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_id() -> impl Strategy<Value = DocumentId> {
        prop_oneof![any::<i64>().prop_map(DocumentId::Integer), ".{1,20}".prop_map(DocumentId::Text)]
    }

    proptest! {
        #[test]
        fn an_id_comes_back_from_its_key(id in any_id()) {
            prop_assert_eq!(decode_id(&encode_id(&id)), Some(id));
        }

        #[test]
        fn keys_sort_as_ids_do(one in any_id(), other in any_id()) {
            prop_assert_eq!(encode_id(&one).cmp(&encode_id(&other)), one.cmp(&other));
        }
    }

    #[test]
    fn the_ends_of_the_integers_sort_right() {
        let ids = [i64::MIN, -1, 0, 1, i64::MAX].map(DocumentId::Integer);
        let keys: Vec<_> = ids.iter().map(encode_id).collect();
        assert!(keys.is_sorted());
        assert_eq!(decode_id(&[]), None);
        assert_eq!(decode_id(&[0, 1]), None);
        assert_eq!(decode_id(&[1]), None);
        assert_eq!(decode_id(&[7, 1]), None);
    }
}
