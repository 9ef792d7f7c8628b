//! Names that a container asks for, RFC 1035: which are answered, and with what. Pure.

use std::net::Ipv4Addr;

/// What stands for a host that is only reached by way of a worker. Nobody is there; the same as in the engine's own helper.
const NOBODY: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 1);
/// Seconds for which an answer holds.
const TTL: u32 = 60;
const HEADER: usize = 12;
const LONGEST_LABEL: u8 = 63;
const A: u16 = 1;
const INTERNET: u16 = 1;
/// There is no such name.
pub(crate) const NO_NAME: u8 = 3;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// In small letters, without the last dot.
    pub name: String,
    kind: u16,
    /// Where it ends in its message.
    end: usize,
}

/// The only question of a message, if it is one.
pub(crate) fn question(message: &[u8]) -> Option<Question> {
    let header = message.first_chunk::<HEADER>()?;
    // A query, a standard one, of one question.
    if header[2] & 0xf8 != 0 || header[4..6] != [0, 1] {
        return None;
    }
    let (mut at, mut labels) = (HEADER, Vec::new());
    loop {
        let length = *message.get(at)?;
        at += 1;
        if length == 0 {
            break;
        }
        if length > LONGEST_LABEL || at > HEADER + 255 {
            return None;
        }
        let label = message.get(at..at + usize::from(length))?;
        at += usize::from(length);
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
    }
    let kind = message.get(at..at + 4)?;
    if kind[2..] != INTERNET.to_be_bytes() {
        return None;
    }
    Some(Question { name: labels.join("."), kind: u16::from_be_bytes([kind[0], kind[1]]), end: at + 4 })
}

/// The code of an answer; `None` for what is none.
pub(crate) fn code(answer: &[u8]) -> Option<u8> {
    let header = answer.first_chunk::<HEADER>()?;
    (header[2] & 0x80 != 0).then_some(header[3] & 0x0f)
}

fn reply(message: &[u8], question: &Question, code: u8, answers: u16) -> Vec<u8> {
    let mut reply = message[..question.end].to_vec();
    // An answer; recursion as it was wanted, and available.
    reply[2] = 0x80 | message[2] & 0x01;
    reply[3] = 0x80 | code;
    reply[6..8].copy_from_slice(&answers.to_be_bytes());
    reply[8..HEADER].fill(0);
    reply
}

/// That there is no such name.
pub(crate) fn refuse(message: &[u8], question: &Question) -> Vec<u8> {
    reply(message, question, NO_NAME, 0)
}

/// That the name is there: an address of nobody, if addresses of this kind were asked for.
pub(crate) fn allow(message: &[u8], question: &Question) -> Vec<u8> {
    if question.kind != A {
        return reply(message, question, 0, 0);
    }
    let mut reply = reply(message, question, 0, 1);
    // The name is the question's.
    reply.extend([0xc0, HEADER as u8]);
    reply.extend(A.to_be_bytes());
    reply.extend(INTERNET.to_be_bytes());
    reply.extend(TTL.to_be_bytes());
    reply.extend(4u16.to_be_bytes());
    reply.extend(NOBODY.octets());
    reply
}

/// Whether a name fits a pattern, in which `*` is anything.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        // What a client says of itself.
        message.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
        message
    }

    #[test]
    fn a_name_gets_an_address_or_none() {
        let message = ask("Example.COM", 1);
        let question = question(&message).unwrap();
        assert_eq!(question.name, "example.com");
        let allowed = allow(&message, &question);
        assert_eq!(allowed[..12], [7, 8, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(allowed[allowed.len() - 16..], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 11, 0, 0, 1]);
        assert_eq!(code(&allowed), Some(0));
        let refused = refuse(&message, &question);
        assert_eq!((code(&refused), &refused[6..12]), (Some(NO_NAME), &[0; 6][..]));
        let six = ask("example.com", 28);
        let question = super::question(&six).unwrap();
        assert_eq!(allow(&six, &question)[6..8], [0, 0]);
        assert_eq!(code(&message), None, "that is a question");
    }

    #[test]
    fn patterns_are_the_engines() {
        for (pattern, name, expected) in [
            ("*", "a.b", true),
            ("*", "", true),
            ("a.com", "a.com", true),
            ("a.com", "b.a.com", false),
            ("*.com", "a.com", true),
            ("*.com", "a.org", false),
            ("a.*.com", "a.b.c.com", true),
            ("a*a", "a", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn no_message_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..300), shaped: bool) {
            let mut bytes = bytes;
            if shaped && bytes.len() > HEADER {
                bytes[2] &= 7;
                (bytes[4], bytes[5]) = (0, 1);
            }
            let _ = code(&bytes);
            if let Some(question) = question(&bytes) {
                prop_assert_eq!(code(&allow(&bytes, &question)), Some(0));
                prop_assert_eq!(code(&refuse(&bytes, &question)), Some(NO_NAME));
            }
        }

        #[test]
        fn a_name_fits_itself_with_anything_starred(start in "[a-z.]{0,9}", middle in "[a-z.]{0,9}", end in "[a-z.]{0,9}") {
            let name = format!("{start}{middle}{end}");
            let starred = format!("{start}*{end}");
            prop_assert!(fits(&name, &name));
            prop_assert!(fits(&starred, &name));
            let longer = format!("{name}!");
            prop_assert!(!fits(&starred, &longer) || end.is_empty());
        }
    }
}
