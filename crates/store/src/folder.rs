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
        }
    }
}
