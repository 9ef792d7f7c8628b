//! A body in signed chunks: `aws-chunked`, with or without signatures, with or without trailers. Without I/O.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>

use bytes::{Buf, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::error::S3Error;
use crate::sign::{SigningKey, hash};

/// Longest line that says how long a chunk is.
const LONGEST_LINE: usize = 1024;
/// Lines that are looked at at once.
const LINES: usize = 256;
/// A piece of fewer bytes is put together with others: each costs who takes it the same.
const SMALL: usize = 1024;
/// Bytes of all trailers.
const LONGEST_TRAILER: usize = 8 * 1024;

/// What checks the signature of each chunk: one is made of the one before.
pub(crate) struct Signatures {
    pub key: SigningKey,
    pub at: String,
    pub scope: String,
    /// Of the head, or the chunk before.
    pub last: String,
}

impl Signatures {
    /// Checks a chunk, by the hash of its bytes.
    fn chunk(&mut self, signature: &str, content: &str) -> Result<(), S3Error> {
        let empty = hash(b"");
        let Self { at, scope, last, .. } = &*self;
        let text = format!("AWS4-HMAC-SHA256-PAYLOAD\n{at}\n{scope}\n{last}\n{empty}\n{content}");
        self.check(text, signature)
    }

    fn trailer(&mut self, signature: &str, lines: &str) -> Result<(), S3Error> {
        let Self { at, scope, last, .. } = &*self;
        let text = format!("AWS4-HMAC-SHA256-TRAILER\n{at}\n{scope}\n{last}\n{}", hash(lines.as_bytes()));
        self.check(text, signature)
    }

    fn check(&mut self, text: String, signature: &str) -> Result<(), S3Error> {
        if !self.key.signed(&text, signature) {
            return Err(S3Error::new(
                http::StatusCode::FORBIDDEN,
                "SignatureDoesNotMatch",
                "The signature of a chunk that we calculated does not match the signature you provided.",
            ));
        }
        signature.clone_into(&mut self.last);
        Ok(())
    }
}

enum State {
    /// In a line that says how long a chunk is.
    Line,
    /// In a chunk of which so much is to come.
    Data {
        left: u64,
        is_last: bool,
        signature: String,
        /// Where a signature says what it has to be.
        content: Option<Sha256>,
    },
    /// At the line end after a chunk.
    End,
    /// In the trailers.
    Trailers,
    Done,
}

/// Takes a body apart as it comes.
pub(crate) struct Chunks {
    state: State,
    /// What of a line is there.
    line: BytesMut,
    signatures: Option<Signatures>,
    trailers: Vec<(String, String)>,
    trailer_bytes: usize,
}

fn malformed() -> S3Error {
    S3Error::invalid_request("The body is not what its aws-chunked encoding says.")
}

/// Content as it comes out.
#[derive(Default)]
struct Out {
    pieces: Vec<Bytes>,
    /// Small pieces, put together.
    small: BytesMut,
}

impl Out {
    fn push(&mut self, piece: Bytes) {
        if piece.len() < SMALL {
            return self.small.extend_from_slice(&piece);
        }
        self.flush();
        self.pieces.push(piece);
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
    }
}

impl Chunks {
    pub fn new(signatures: Option<Signatures>) -> Self {
        let (line, trailers) = Default::default();
        Self { state: State::Line, line, signatures, trailers, trailer_bytes: 0 }
    }

    /// The content in what has come, of which what is left after many lines stays in `bytes`: each is work.
    pub fn push(&mut self, bytes: &mut Bytes) -> Result<Vec<Bytes>, S3Error> {
        let (mut out, mut lines) = (Out::default(), 0);
        while !bytes.is_empty() && lines < LINES {
            match &mut self.state {
                State::Line | State::End | State::Trailers => {
                    lines += 1;
                    let Some(line) = self.take_line(bytes)? else { break };
                    self.line(&line)?;
                }
                State::Data { left, content, .. } => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let part = bytes.split_to(take);
                    *left -= part.len() as u64;
                    if let Some(content) = content {
                        content.update(&part);
                    }
                    out.push(part);
                    self.end_of_data()?;
                }
                State::Done => return Err(malformed()),
            }
        }
        out.flush();
        Ok(out.pieces)
    }

    /// Checks that all has come; returns the trailers.
    pub fn finish(&mut self) -> Result<Vec<(String, String)>, S3Error> {
        match self.state {
            State::Done => {}
            // Some leave the last empty line out where nothing says who signed the trailers.
            State::Trailers if self.line.is_empty() && self.signatures.is_none() => {}
            _ => return Err(S3Error::incomplete_body()),
        }
        Ok(std::mem::take(&mut self.trailers))
    }

    /// A line without its end, when it is there.
    fn take_line(&mut self, bytes: &mut Bytes) -> Result<Option<String>, S3Error> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = bytes.split_to(end.map_or(bytes.len(), |at| at + 1));
        self.line.extend_from_slice(&part);
        if self.line.len() > LONGEST_LINE {
            return Err(malformed());
        }
        if end.is_none() {
            return Ok(None);
        }
        let mut line = self.line.split();
        line.truncate(line.len() - 1);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        Ok(Some(std::str::from_utf8(line.chunk()).map_err(|_| malformed())?.to_owned()))
    }

    fn line(&mut self, line: &str) -> Result<(), S3Error> {
        match self.state {
            State::End if line.is_empty() => self.state = State::Line,
            State::Line => {
                let (size, extension) = line.split_once(';').unwrap_or((line, ""));
                let fits =
                    !size.is_empty() && size.len() <= 12 && size.bytes().all(|b| b.is_ascii_hexdigit());
                let left = u64::from_str_radix(size, 16).ok().filter(|_| fits).ok_or_else(malformed)?;
                let signature = extension.strip_prefix("chunk-signature=").unwrap_or_default().to_owned();
                let content = self.signatures.is_some().then(Sha256::new);
                self.state = State::Data { left, is_last: left == 0, signature, content };
                self.end_of_data()?;
            }
            State::Trailers if line.is_empty() => self.end_of_trailers()?,
            State::Trailers => {
                self.trailer_bytes += line.len();
                let (name, value) = line.split_once(':').ok_or_else(malformed)?;
                if self.trailer_bytes > LONGEST_TRAILER {
                    return Err(malformed());
                }
                self.trailers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
            _ => return Err(malformed()),
        }
        Ok(())
    }

    /// Where all of a chunk is there.
    fn end_of_data(&mut self) -> Result<(), S3Error> {
        let State::Data { left: 0, is_last, signature, content } = &mut self.state else { return Ok(()) };
        if let (Some(signatures), Some(content)) = (&mut self.signatures, content.take()) {
            signatures.chunk(signature, &hex::encode(content.finalize()))?;
        }
        // The last one is empty; what would be its line end is that of the trailers.
        self.state = if *is_last { State::Trailers } else { State::End };
        Ok(())
    }

    fn end_of_trailers(&mut self) -> Result<(), S3Error> {
        let signature = self.trailers.iter().position(|(name, _)| name == "x-amz-trailer-signature");
        let signature = signature.map(|at| self.trailers.remove(at).1);
        if let Some(signatures) = &mut self.signatures
            && !self.trailers.is_empty()
        {
            let lines: String =
                self.trailers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
            signatures.trailer(&signature.unwrap_or_default(), &lines)?;
        }
        self.state = State::Done;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::claim::Claim;

    const SEED: &str = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    const FIRST: &str = "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648";

    /// The example of AWS: 66,560 times `a` in chunks of 64 KiB.
    fn example() -> (Signatures, Vec<u8>) {
        let claim = Claim {
            key: "AKIAIOSFODNN7EXAMPLE".into(),
            date: "20130524".into(),
            region: "us-east-1".into(),
            at: "20130524T000000Z".into(),
            headers: Vec::new(),
            signature: SEED.into(),
            payload: String::new(),
            presigned: false,
        };
        let key = SigningKey::of("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", &claim);
        let signatures =
            Signatures { key, at: claim.at.clone(), scope: claim.scope(), last: claim.signature };
        let body = [
            format!("10000;chunk-signature={FIRST}\r\n").into_bytes(),
            vec![b'a'; 65_536],
            b"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n"
                .to_vec(),
            vec![b'a'; 1024],
            b"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
                .to_vec(),
        ];
        (signatures, body.concat())
    }

    /// A content and its trailers.
    type Read = (Vec<u8>, Vec<(String, String)>);

    fn read(mut chunks: Chunks, body: &[u8], step: usize) -> Result<Read, S3Error> {
        let mut content = Vec::new();
        for piece in body.chunks(step) {
            let mut piece = Bytes::copy_from_slice(piece);
            while !piece.is_empty() {
                chunks.push(&mut piece)?.iter().for_each(|part| content.extend_from_slice(part));
            }
        }
        Ok((content, chunks.finish()?))
    }

    #[test]
    fn chunks_of_one_byte_come_out_together_and_not_all_at_once() {
        let body = [b"1\r\na\r\n".repeat(1000), b"0\r\n\r\n".to_vec()].concat();
        assert_eq!(read(Chunks::new(None), &body, body.len()).unwrap().0, b"a".repeat(1000));
        let (mut chunks, mut rest) = (Chunks::new(None), Bytes::from(body));
        let first = chunks.push(&mut rest).unwrap();
        assert_eq!(first.iter().map(Bytes::len).collect::<Vec<_>>(), [LINES / 2]);
    }

    #[test]
    fn the_published_example_is_read_and_a_changed_byte_is_found() {
        for step in [1, 7, 70_000] {
            let (signatures, body) = example();
            let (content, trailers) = read(Chunks::new(Some(signatures)), &body, step).unwrap();
            assert_eq!((content.len(), trailers.len()), (66_560, 0));
        }
        for at in [100, 20, 65_536 + 150, 65_536 + 300] {
            let (signatures, mut body) = example();
            body[at] ^= 1;
            assert!(read(Chunks::new(Some(signatures)), &body, 1000).is_err(), "{at}");
        }
        let (signatures, body) = example();
        let cut = read(Chunks::new(Some(signatures)), &body[..body.len() - 4], 1000);
        assert_eq!(cut.unwrap_err().code, "IncompleteBody");
    }

    #[test]
    fn trailers_come_after_the_last_chunk() {
        let body = b"5\r\nhello\r\n0\r\nX-Amz-Checksum-CRC32: NhCmhg==\r\n\r\n";
        let trailers = vec![("x-amz-checksum-crc32".to_owned(), "NhCmhg==".to_owned())];
        let read = |body: &[u8]| read(Chunks::new(None), body, 3).map_err(|error| error.code);
        assert_eq!(read(body), Ok((b"hello".to_vec(), trailers.clone())));
        assert_eq!(read(&body[..body.len() - 2]), Ok((b"hello".to_vec(), trailers)));
        assert_eq!(read(b"5\r\nhell"), Err("IncompleteBody"));
        for wrong in
            [&b"5\r\nhello0\r\n\r\n"[..], b"x\r\n", b"-1\r\n", b"0\r\n\r\nmore", b"0\r\nno colon\r\n\r\n"]
        {
            assert_eq!(read(wrong), Err("InvalidRequest"));
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300), step in 1_usize..50) {
            let _ = read(Chunks::new(None), &body, step);
            let _ = read(Chunks::new(Some(example().0)), &body, step);
        }

        #[test]
        fn chunks_of_any_sizes_come_to_the_same(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8), step in 1_usize..50) {
            let mut body = Vec::new();
            for part in &parts {
                body.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                body.extend_from_slice(part);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(read(Chunks::new(None), &body, step), Ok((parts.concat(), Vec::new())));
        }
    }
}
