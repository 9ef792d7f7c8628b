#![allow(clippy::unwrap_used, reason = "tests")]

use std::future::poll_fn;

use proptest::prelude::*;

use super::*;

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn brotlied(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = brotli::CompressorWriter::new(&mut out, 4096, 4, 20);
    encoder.write_all(bytes).unwrap();
    drop(encoder);
    out
}

struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// Decodes `encoded`, which comes in pieces of `size`. Returns the largest piece that was sent, too.
fn decoded(coding: Coding, encoded: &[u8], size: usize) -> Result<(Vec<u8>, usize), BoxError> {
    let mut body =
        Decoded::new(coding, Pieces(encoded.chunks(size).map(Bytes::copy_from_slice).collect()), 1);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut all, mut largest) = (Vec::new(), 0);
    runtime.block_on(async {
        while let Some(frame) = poll_fn(|cx| body.poll_frame(cx)).await {
            let data = frame?.into_data().unwrap_or_default();
            largest = largest.max(data.len());
            all.extend_from_slice(&data);
        }
        Ok((all, largest))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_bytes_in_any_pieces_come_back(
        bytes in proptest::collection::vec(0_u8..4, 0..40_000),
        size in 1_usize..5000,
    ) {
        let (gzip, _) = decoded(Coding::Gzip, &gzipped(&bytes), size).unwrap();
        prop_assert_eq!(&gzip, &bytes);
        let (brotli, _) = decoded(Coding::Brotli, &brotlied(&bytes), size).unwrap();
        prop_assert_eq!(&brotli, &bytes);
    }
}

#[test]
fn an_empty_body_stays_empty() {
    assert!(decoded(Coding::Gzip, &[], 1).unwrap().0.is_empty());
    assert!(decoded(Coding::Brotli, &[], 1).unwrap().0.is_empty());
}

#[test]
fn what_is_cut_short_or_something_else_is_an_error() {
    let bytes: Vec<u8> = (0..50_000_u32).map(|n| (n * n % 251) as u8).collect();
    for (coding, encoded) in [(Coding::Gzip, gzipped(&bytes)), (Coding::Brotli, brotlied(&bytes))] {
        assert!(decoded(coding, &encoded[..encoded.len() / 2], 1000).is_err(), "{coding:?}");
        assert!(
            decoded(coding, b"this is plain text, and it goes on for a while", 10).is_err(),
            "{coding:?}"
        );
    }
}

#[test]
fn a_small_body_that_decodes_to_much_is_sent_in_pieces() {
    let bytes = vec![0; 32 << 20];
    for (coding, encoded) in [(Coding::Gzip, gzipped(&bytes)), (Coding::Brotli, brotlied(&bytes))] {
        let (all, largest) = decoded(coding, &encoded, encoded.len()).unwrap();
        assert_eq!(all.len(), bytes.len());
        assert!(largest <= 2 * PIECE, "{coding:?}: {largest}");
    }
}

#[test]
fn what_is_wrong_after_much_was_right_comes_after_it() {
    let bytes = vec![0; 8 << 20];
    let encoded = gzipped(&bytes);
    let mut body =
        Decoded::new(Coding::Gzip, Pieces([encoded[..encoded.len() - 8].to_vec().into()].into()), 1);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut all = 0;
    let error = runtime.block_on(async {
        loop {
            match poll_fn(|cx| body.poll_frame(cx)).await {
                Some(Ok(frame)) => all += frame.into_data().unwrap().len(),
                other => return other,
            }
        }
    });
    assert!(matches!(error, Some(Err(_))));
    assert_eq!(all, bytes.len());
}

#[tokio::test]
async fn others_have_their_turn_while_much_is_decoded() {
    let encoded = gzipped(&vec![0; 64 << 20]);
    let mut body = Decoded::new(Coding::Gzip, Pieces([encoded.into()].into()), 1);
    let mut waits = 0;
    let mut made = 0;
    while let Some(frame) = poll_fn(|cx| {
        let polled = body.poll_frame(cx);
        waits += usize::from(polled.is_pending());
        polled
    })
    .await
    {
        made += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(made, 64 << 20);
    assert!(waits >= made / ROUND / 2, "{waits}");
}

#[test]
fn only_what_the_client_does_not_take_is_decoded() {
    let headers = |name: header::HeaderName, value: &str| {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    };
    let needed = |accept: &str, encoding: &str| {
        needed(&headers(header::ACCEPT_ENCODING, accept), &headers(header::CONTENT_ENCODING, encoding))
    };
    assert_eq!(needed("gzip, deflate, br", "gzip"), None);
    assert_eq!(needed("GZIP;q=0.1", "gzip"), None);
    assert_eq!(needed("*", "br"), None);
    assert_eq!(needed("gzip", "br"), Some(Coding::Brotli));
    assert_eq!(needed("gzip;q=0, *", "gzip"), Some(Coding::Gzip));
    assert_eq!(needed("identity", "GZip"), Some(Coding::Gzip));
    assert_eq!(needed("identity", "zstd"), None);
    assert_eq!(super::needed(&HeaderMap::new(), &HeaderMap::new()), None);
}
