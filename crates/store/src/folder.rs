//! Ids from config files as folder names. Pure.

/// Longest name made from an id as it is; file systems allow 255 bytes.
const MAX_PLAIN: usize = 180;

/// A folder name for `id`, different for different ids and harmless for any: letters, digits, `-` and `_` stay,
/// all else is `%XX`. What is empty or too long gets a form that no other id can have.
pub fn folder_name(id: &str) -> String {
    let mut name = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte.into()),
            other => name.push_str(&format!("%{other:02X}")),
        }
    }
    match name.len() {
        0 => "%empty".to_owned(),
        1..=MAX_PLAIN => name,
        _ => format!("%long-{}", blake3::hash(id.as_bytes()).to_hex()),
    }
}

/// The id whose folder has this name, unless it was too long to be in it.
pub fn folder_id(name: &str) -> Option<String> {
    if name == "%empty" {
        return Some(String::new());
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(name.len()), name);
    while let Some(first) = rest.chars().next() {
        let plain = first.len_utf8();
        match first {
            '%' => {
                let hex = rest.get(1..3)?;
                bytes.push(u8::from_str_radix(hex, 16).ok()?);
                rest = &rest[3..];
            }
            _ => {
                bytes.extend_from_slice(&rest.as_bytes()[..plain]);
                rest = &rest[plain..];
            }
        }
    }
    String::from_utf8(bytes).ok().filter(|id| folder_name(id) == name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_ids_stay_inside_the_folder() {
        assert_eq!(folder_name("0123abcDEF-_"), "0123abcDEF-_");
        assert_eq!(folder_name("../x"), "%2E%2E%2Fx");
        assert_eq!(folder_name(""), "%empty");
        assert!(folder_name(&"é".repeat(200)).len() < 255);
    }

    proptest! {
        #[test]
        fn different_ids_have_different_folders(a in ".{0,300}", b in ".{0,300}") {
            prop_assert_eq!(a == b, folder_name(&a) == folder_name(&b));
            prop_assert!(!folder_name(&a).contains(['/', '.', '\0']));
            match folder_id(&folder_name(&a)) {
                Some(id) => prop_assert_eq!(id, a),
                None => prop_assert!(folder_name(&a).starts_with("%long-")),
            }
        }

        #[test]
        fn a_folder_of_somebody_else_has_no_id_or_one_that_leads_to_it(name in "[%a-zA-Z0-9_.é-]{0,12}") {
            if let Some(id) = folder_id(&name) {
                prop_assert_eq!(folder_name(&id), name);
            }
        }
    }
}
