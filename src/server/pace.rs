//! How slowly may a client send its body?
//!
//! Invariant: a body of which nothing comes for `body_seconds`, or of which less comes than `body_bytes_per_second` over the
//! time that it is waited for, ends with [`Slow`]. Time in which nobody waits for it, because what came is being worked on,
//! does not count.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::Limits;

/// A body that must keep its pace.
pub(super) struct Paced {
    body: Body,
    pause_max: Duration,
    bytes_per_second: u64,
    bytes: u64,
    /// Time that was spent on waiting.
    waited: Duration,
    /// Since when it is waited for a piece, and what rings when that is too long.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// It did not keep its pace.
#[derive(Debug)]
pub(super) struct Slow {
    waited: Duration,
    bytes: u64,
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the body came too slowly: {} bytes in {:.1} s", self.bytes, self.waited.as_secs_f64())
    }
}

impl Error for Slow {}

impl Slow {
    /// The message of a slow body, where that is what stands behind this error.
    pub(super) fn behind(error: &(dyn Error + 'static)) -> Option<String> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(slow) = error.downcast_ref::<Self>() {
                return Some(slow.to_string());
            }
            next = error.source();
        }
        None
    }
}

impl Paced {
    pub(super) fn new(body: Body, limits: &Limits) -> Self {
        let pause_max = Duration::from_secs(limits.body_seconds);
        let bytes_per_second = limits.body_bytes_per_second;
        Self { body, pause_max, bytes_per_second, bytes: 0, waited: Duration::ZERO, waiting: None }
    }

    /// How much longer it may be waited: a pause, and never beyond what the bytes so far have earned.
    fn patience(&self) -> Duration {
        if self.bytes_per_second == 0 {
            return self.pause_max;
        }
        let earned = Duration::from_secs_f64(self.bytes as f64 / self.bytes_per_second as f64);
        self.pause_max.min((self.pause_max + earned).saturating_sub(self.waited))
    }
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            if let Some((since, _)) = this.waiting.take() {
                this.waited += since.elapsed();
            }
            let frame = frame.map(|frame| frame.map_err(Into::into));
            if let Some(Ok(frame)) = &frame {
                this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            return Poll::Ready(frame);
        }
        let patience = this.patience();
        let (since, bell) = this.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(patience))));
        match bell.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let slow = Slow { waited: this.waited + since.elapsed(), bytes: this.bytes };
                Poll::Ready(Some(Err(slow.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn paced(bytes: u64, waited: u64) -> Paced {
        let limits = Limits { body_seconds: 10, body_bytes_per_second: 100, ..Limits::default() };
        Paced { bytes, waited: Duration::from_secs(waited), ..Paced::new(Body::empty(), &limits) }
    }

    #[test]
    fn a_body_is_waited_for_as_long_as_its_bytes_have_earned_and_no_longer_than_a_pause() {
        let patience = |bytes, waited| paced(bytes, waited).patience().as_secs();
        assert_eq!(patience(0, 0), 10);
        assert_eq!(patience(0, 4), 6);
        assert_eq!(patience(500, 12), 3, "10 s and 5 s earned, of which 12 s are gone");
        assert_eq!(patience(1 << 20, 50), 10);
        assert_eq!(patience(100, 60), 0);
    }
}
