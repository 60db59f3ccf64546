//! How is a body read that was compressed?
//!
//! Invariants: piece by piece, and with a window of a few MiB at most, so that what a body would become costs no memory before somebody counts it; to its last
//! member, and what is behind that is an error, so that nothing of it is left out in silence.

use std::io;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader};

use super::app::Answer;
use super::failure::Failure;

/// What is decompressed before it is handed on.
const PIECE_BYTES: usize = 32 << 10;
/// What a zstd frame may ask to be kept of it, as a power of two: the 8 MiB that RFC 9659 grants, and not the 128 MiB of the
/// library, which 1,000 requests would have at once.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Hands on what was compressed.
pub(super) async fn decompress(request: Request, next: Next) -> Response {
    match decompressed(request) {
        Ok(request) => next.run(request).await,
        Err(failure) => {
            let mut response = failure.into_response();
            response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
            response
        }
    }
}

fn decompressed(mut request: Request) -> Answer<Request> {
    let mut given = request.headers().get_all(header::CONTENT_ENCODING).iter();
    let encoding = given.next().map_or(&b"identity"[..], HeaderValue::as_bytes).to_ascii_lowercase();
    let body = match (encoding.as_slice(), given.next()) {
        (b"identity" | b"", None) => return Ok(request),
        (b"gzip" | b"x-gzip", None) => {
            let mut decoder = GzipDecoder::new(reader(&mut request));
            decoder.multiple_members(true);
            pieces(decoder)
        }
        (b"zstd", None) => {
            let mut decoder =
                ZstdDecoder::with_params(reader(&mut request), &[DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX)]);
            decoder.multiple_members(true);
            pieces(decoder)
        }
        _ => {
            let given = String::from_utf8_lossy(&encoding).into_owned();
            let message = format!("the content encoding `{given}` is not taken: send gzip or zstd, once, or neither");
            return Err(Failure::of("unsupported_media_type", message));
        }
    };
    *request.body_mut() = body;
    request.headers_mut().remove(header::CONTENT_ENCODING);
    request.headers_mut().remove(header::CONTENT_LENGTH);
    Ok(request)
}

fn reader(request: &mut Request) -> impl tokio::io::AsyncBufRead + Send + Unpin + use<> {
    let body = std::mem::take(request.body_mut());
    StreamReader::new(body.into_data_stream().map_err(io::Error::other))
}

fn pieces(decoder: impl AsyncRead + Send + 'static) -> Body {
    Body::from_stream(ReaderStream::with_capacity(decoder, PIECE_BYTES).map_err(with_a_way_out))
}

/// The library's words for a window beyond the limit lead nowhere.
fn with_a_way_out(error: io::Error) -> io::Error {
    if !error.to_string().contains("too much memory") {
        return error;
    }
    io::Error::other("its zstd window is longer than 8 MiB: compress it with a level up to 19 and without --long")
}
