//! One signal on its way: its queue, its exporter, and the deadline of a flush.

use super::outlet::Outlet;
use super::{Drained, Totals, Wanted};
use crate::env::Queue;
use crate::flush;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// An exporter whose requests go through an [`Outlet`], which knows what became of them.
pub(super) trait Export: Debug + Send + Sync {
    /// What it exports by one request.
    type Batch: Send;

    fn export(&self, batch: Self::Batch) -> impl Future<Output = ()> + Send;
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    flushed_at: Option<SystemTime>,
}

#[derive(Debug)]
pub(super) struct Lane<T, E> {
    outlet: Arc<Outlet>,
    exporter: E,
    bounds: Queue,
    state: Mutex<State<T>>,
}

impl<T, E: Export> Lane<T, E> {
    pub(super) fn new(outlet: Arc<Outlet>, exporter: E, bounds: Queue) -> Self {
        let state = Mutex::new(State { waiting: VecDeque::new(), flushed_at: None });
        Self { outlet, exporter, bounds, state }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this signal is to be sent now; if so, that is noted.
    pub(super) fn is_due(&self, wanted: Wanted) -> bool {
        let now = SystemTime::now();
        let mut state = self.state();
        let is_due = match wanted {
            Wanted::All => true,
            // A full batch does not wait: the queue is bounded.
            Wanted::Due { .. } if state.waiting.len() >= self.bounds.batch_max => true,
            Wanted::Due { is_busy } => flush::is_due(is_busy, state.flushed_at, now, self.bounds.every),
        };
        if is_due {
            state.flushed_at = Some(now);
        }
        is_due
    }

    pub(super) fn push(&self, item: T) {
        self.outlet.made(1);
        let mut state = self.state();
        if state.waiting.len() < self.bounds.items_max {
            state.waiting.push_back(item);
        } else {
            self.outlet.dropped(1);
        }
    }

    #[cfg(test)]
    pub(super) fn take_first(&self) -> Option<T> {
        self.state().waiting.pop_front()
    }

    /// Exports what `next` makes, with its number of items, until it makes nothing or the time is up; the kept batch first.
    pub(super) async fn drain_from(
        &self,
        budget: Duration,
        mut next: impl FnMut() -> Option<(E::Batch, u64)> + Send,
    ) -> Drained {
        let deadline = Instant::now() + budget.min(self.bounds.timeout).min(self.outlet.timeout());
        loop {
            let export = async {
                if self.outlet.keeps_one() {
                    let _ = self.outlet.post_kept().await;
                    return true;
                }
                let Some((batch, items)) = next() else { return false };
                self.outlet.announce(items);
                self.exporter.export(batch).await;
                true
            };
            let ended = tokio::time::timeout_at(deadline.into(), export).await;
            self.outlet.exporter_ended();
            match ended {
                Ok(true) if !self.outlet.keeps_one() => {}
                Ok(_) => break,
                Err(_) => {
                    // A head that came in time has settled the batch, though its body did not.
                    if self.outlet.keeps_one() {
                        self.outlet.fail("it did not answer in time".to_owned());
                    }
                    break;
                }
            }
        }
        self.outlet.tell()
    }

    /// Drops what still waits; tells what became of everything.
    pub(super) fn close(&self) -> Totals {
        let waiting = std::mem::take(&mut self.state().waiting).len();
        self.outlet.close(u64::try_from(waiting).unwrap_or(u64::MAX))
    }
}

impl<T: Send, E: Export<Batch = Vec<T>>> Lane<T, E> {
    /// Exports everything that waits, in batches of the configured size.
    pub(super) async fn drain(&self, budget: Duration) -> Drained {
        self.drain_from(budget, || {
            let mut state = self.state();
            let count = state.waiting.len().min(self.bounds.batch_max);
            let items: Vec<T> = state.waiting.drain(..count).collect();
            (count > 0).then(|| (items, u64::try_from(count).unwrap_or(u64::MAX)))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Settings;
    use crate::label::Signal;
    use crate::otlp::client::Client;
    use http::Request;
    use opentelemetry_http::HttpClient as _;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    /// Encodes numbers as they are; odd ones it cannot.
    #[derive(Debug)]
    struct Even(Arc<Outlet>);

    impl Export for Even {
        type Batch = Vec<u8>;

        async fn export(&self, batch: Vec<u8>) {
            if batch.iter().all(|number| number.is_multiple_of(2)) {
                let _ = self.0.send_bytes(Request::new(batch.into())).await;
            }
        }
    }

    fn lane(address: &str) -> Lane<u8, Even> {
        let settings = Settings::read(&|name| match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(format!("http://{address}")),
            "OTEL_BSP_MAX_QUEUE_SIZE" => Some("4".into()),
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE" => Some("1".into()),
            _ => None,
        });
        let client = Client::new(settings.target(Signal::Traces).unwrap().clone(), "test");
        let outlet = Arc::new(Outlet::new(client));
        Lane::new(Arc::clone(&outlet), Even(outlet), settings.span_queue)
    }

    fn totals(lane: &Lane<u8, Even>) -> (u64, u64, u64) {
        let Totals { made, sent, dropped } = lane.close();
        (made, sent, dropped)
    }

    /// Answers each connection with the next of `answers`, an empty one never; hands out what it read.
    fn collector(answers: &'static [&'static str]) -> (String, std::sync::mpsc::Receiver<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (bodies, read) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for (stream, answer) in listener.incoming().flatten().zip(answers) {
                let mut stream = stream;
                let mut request = Vec::new();
                // A body is one byte, after the blank line.
                while request.len() < 5 || &request[request.len() - 5..request.len() - 1] != b"\r\n\r\n" {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                bodies.send(request[request.len() - 1]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                open.push(stream);
            }
        });
        (address, read)
    }

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    /// `partial_success { rejected: 1 }`
    const REJECTED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\x0a\x02\x08\x01";
    /// Its head comes, its body does not.
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n";
    const BUSY: &str = "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n";
    const REFUSED: &str = "HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n";
    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(500);

    #[tokio::test]
    async fn what_an_exporter_cannot_encode_is_lost_and_counted() {
        let (address, _read) = collector(&[OK, OK]);
        let lane = lane(&address);
        [0, 1, 2].into_iter().for_each(|number| lane.push(number));
        let drained = lane.drain(LONG).await;
        assert_eq!((drained.requests, drained.sent, drained.dropped, drained.failure), (2, 2, 1, None));
        assert_eq!(totals(&lane), (3, 2, 1));
    }

    #[tokio::test]
    async fn a_request_that_was_not_answered_in_time_goes_first_the_next_time() {
        let (address, read) = collector(&["", BUSY, OK, OK]);
        let lane = lane(&address);
        [2, 4].into_iter().for_each(|number| lane.push(number));
        let drained = lane.drain(SHORT).await;
        assert_eq!((drained.sent, drained.failure.as_deref()), (0, Some("it did not answer in time")));
        let drained = lane.drain(LONG).await;
        assert!(drained.failure.unwrap().contains("503"));
        let drained = lane.drain(LONG).await;
        assert_eq!((drained.requests, drained.sent, drained.failure), (2, 2, None));
        assert_eq!(read.iter().take(4).collect::<Vec<_>>(), [2, 2, 2, 4]);
        assert_eq!(totals(&lane), (2, 2, 0));
    }

    #[tokio::test]
    async fn an_answers_head_settles_a_batch_and_its_body_takes_back_what_was_rejected() {
        let (address, read) = collector(&[REJECTED, REFUSED, HEAD]);
        let lane = lane(&address);
        [2, 4, 6, 8, 10].into_iter().for_each(|number| lane.push(number));
        let drained = lane.drain(SHORT).await;
        // The fifth found the queue full; the fourth's time had not come.
        assert_eq!((drained.requests, drained.sent, drained.dropped, drained.failure), (3, 1, 3, None));
        assert_eq!(read.iter().take(3).collect::<Vec<_>>(), [2, 4, 6]);
        assert_eq!(totals(&lane), (5, 1, 4));
    }
}
