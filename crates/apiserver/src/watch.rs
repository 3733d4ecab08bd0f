//! Following changes. A watch holds no events: it holds a place in the history, so that slow readers cost nothing and one
//! that falls behind too far is told so, as by the real server.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use serde_json::json;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::object;
use crate::refusal::Refusal;
use crate::selector::Selector;
use crate::served::Served;
use crate::state::{Shared, lock};
use crate::store::{Change, Place, Store, Stored};

/// About so much is sent at once.
const FRAME_BYTES: usize = 256 * 1024;

/// How a watch ends that is cut.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The connection closes.
    Closed,
    /// The server says 410: what the watch should go on from is forgotten.
    Expired,
}

/// A watch as the store sees it.
pub(crate) struct Watcher {
    /// Empty for all.
    pub(crate) namespace: String,
    pub(crate) selector: Selector,
    pub(crate) connection: u64,
    /// The first change that is not sent yet.
    pub(crate) behind: Option<u64>,
    end: Option<End>,
    waker: Option<Waker>,
}

/// What a change is to one watch.
#[derive(Copy, Clone, PartialEq)]
pub(crate) enum Event {
    Added,
    Modified,
    Deleted,
    /// It is there still, but the selector no longer fits it: it is shown as it was.
    Left,
}

impl Watcher {
    pub(crate) fn new(namespace: &str, selector: Selector, connection: u64) -> Watcher {
        Watcher { namespace: namespace.to_owned(), selector, connection, behind: None, end: None, waker: None }
    }

    pub(crate) fn event_of(&self, change: &Change) -> Option<Event> {
        if !self.namespace.is_empty() && change.after.namespace != self.namespace {
            return None;
        }
        let fits = |stored: &Arc<Stored>| self.selector.matches(&stored.value);
        let did_fit = change.before.as_ref().is_some_and(fits);
        if change.is_deletion {
            return did_fit.then_some(Event::Deleted);
        }
        match (did_fit, fits(&change.after)) {
            (false, true) => Some(Event::Added),
            (true, true) => Some(Event::Modified),
            (true, false) => Some(Event::Left),
            (false, false) => None,
        }
    }

    pub(crate) fn hear(&mut self, change: &Change) {
        if self.behind.is_none() && self.event_of(change).is_some() {
            self.behind = Some(change.version);
            self.wake();
        }
    }

    pub(crate) fn end_with(&mut self, end: End) {
        self.end = Some(end);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// How a watch is served.
pub(crate) struct Pace {
    /// Events are sent so long after they happened.
    pub(crate) lag: Duration,
    pub(crate) ends_at: Option<Instant>,
    pub(crate) bookmark_every: Option<Duration>,
}

/// The body of a watch's answer: lines of JSON.
pub(crate) struct WatchBody {
    shared: Shared,
    served: Arc<Served>,
    namespace: String,
    id: u64,
    /// What is sent before anything else.
    first: Bytes,
    pace: Pace,
    bookmark_at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    is_done: bool,
}

enum Next {
    Lines(Bytes),
    Last(Bytes),
    End,
    /// Nothing now; something at that time.
    Wait(Option<Instant>),
}

impl WatchBody {
    pub(crate) fn new(
        shared: Shared,
        served: Arc<Served>,
        namespace: &str,
        id: u64,
        first: Bytes,
        pace: Pace,
    ) -> WatchBody {
        let bookmark_at = pace.bookmark_every.map(|every| Instant::now() + every);
        WatchBody {
            shared,
            served,
            namespace: namespace.to_owned(),
            id,
            first,
            pace,
            bookmark_at,
            timer: None,
            is_done: false,
        }
    }

    fn next(&mut self, now: Instant, waker: &Waker) -> Next {
        if !self.first.is_empty() {
            return Next::Lines(std::mem::take(&mut self.first));
        }
        if self.pace.ends_at.is_some_and(|end| end <= now) {
            return Next::End;
        }
        let shared = Arc::clone(&self.shared);
        let mut state = lock(&shared);
        let next = self.next_events(&mut state.store, now, waker);
        if let (Next::Wait(None), Some(at), Some(every)) = (&next, self.bookmark_at, self.pace.bookmark_every)
            && at <= now
        {
            self.bookmark_at = Some(now + every);
            return Next::Lines(bookmark(&self.served, state.store.version, false));
        }
        next
    }

    fn next_events(&self, store: &mut Store, now: Instant, waker: &Waker) -> Next {
        let table = &mut store.tables[self.served.table];
        let Some(watcher) = table.watcher(&self.namespace, self.id) else { return Next::End };
        let (end, behind) = (watcher.end, watcher.behind.take());
        match (end, behind) {
            (Some(End::Closed), _) => return Next::End,
            (Some(End::Expired), _) => return Next::Last(error_line(&Refusal::too_old(store.version, store.version))),
            (None, None) => {
                watcher.waker = Some(waker.clone());
                return Next::Wait(None);
            }
            (None, Some(behind)) if !table.knows(behind) => {
                return Next::Last(error_line(&Refusal::too_old(behind, store.version)));
            }
            _ => {}
        }
        let (lines, behind) = self.lines_from(store, behind.unwrap_or(0), now);
        let due = behind.map(|(_, due)| due);
        let table = &mut store.tables[self.served.table];
        let Some(watcher) = table.watcher(&self.namespace, self.id) else { return Next::End };
        watcher.behind = behind.map(|(version, _)| version);
        if lines.is_empty() {
            watcher.waker = Some(waker.clone());
            return Next::Wait(due);
        }
        Next::Lines(Bytes::from(lines))
    }

    /// Events from this version on that are due; and the first one that was left, with the time when it is due.
    fn lines_from(&self, store: &mut Store, version: u64, now: Instant) -> (Vec<u8>, Option<(u64, Instant)>) {
        let table = &mut store.tables[self.served.table];
        let mut lines = Vec::new();
        let Some(watcher) = table.watcher(&self.namespace, self.id) else { return (lines, None) };
        let watcher = Watcher::new(&self.namespace, std::mem::take(&mut watcher.selector), 0);
        let mut left = None;
        for change in table.since(version - 1) {
            let Some(event) = watcher.event_of(change) else { continue };
            let due = change.at + self.pace.lag;
            if due > now || lines.len() > FRAME_BYTES {
                left = Some((change.version, due));
                break;
            }
            self.write_event(&mut lines, event, change);
        }
        if let Some(kept) = table.watcher(&self.namespace, self.id) {
            kept.selector = watcher.selector;
        }
        (lines, left)
    }

    fn write_event(&self, lines: &mut Vec<u8>, event: Event, change: &Change) {
        match (event, &change.before) {
            (Event::Left, Some(before)) => {
                let after = &change.after;
                let place =
                    Place { table: self.served.table, namespace: after.namespace.clone(), name: after.name.clone() };
                write_line(lines, "DELETED", &self.served, &before.at_version(&place, change.version));
            }
            (Event::Added, _) => write_line(lines, "ADDED", &self.served, &change.after),
            (Event::Modified, _) => write_line(lines, "MODIFIED", &self.served, &change.after),
            (Event::Deleted | Event::Left, _) => write_line(lines, "DELETED", &self.served, &change.after),
        }
    }

    /// Whether the timer has rung. It is set to what comes first: `due`, the next bookmark or the end.
    fn poll_timer(&mut self, due: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        // A bookmark must not overtake an event.
        let bookmark = if due.is_none() { self.bookmark_at } else { None };
        let Some(at) = [due, bookmark, self.pace.ends_at].into_iter().flatten().min() else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx)
    }
}

impl Body for WatchBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        while !this.is_done {
            let due = match this.next(Instant::now(), cx.waker()) {
                Next::Lines(lines) => return Poll::Ready(Some(Ok(Frame::data(lines)))),
                Next::Last(line) => {
                    this.is_done = true;
                    return Poll::Ready(Some(Ok(Frame::data(line))));
                }
                Next::End => break,
                Next::Wait(due) => due,
            };
            if this.poll_timer(due, cx).is_pending() {
                return Poll::Pending;
            }
        }
        this.is_done = true;
        Poll::Ready(None)
    }
}

impl Drop for WatchBody {
    fn drop(&mut self) {
        lock(&self.shared).store.tables[self.served.table].stop_following(&self.namespace, self.id);
    }
}

/// A line that says what happened to an object.
pub(crate) fn write_line(lines: &mut Vec<u8>, event: &str, served: &Served, stored: &Stored) {
    lines.extend_from_slice(b"{\"type\":\"");
    lines.extend_from_slice(event.as_bytes());
    lines.extend_from_slice(b"\",\"object\":");
    served.write(lines, stored);
    lines.extend_from_slice(b"}\n");
}

/// A line that says how far the watch has come; `ends_list` where it ends the objects that were there at the beginning.
pub(crate) fn bookmark(served: &Served, version: u64, ends_list: bool) -> Bytes {
    let mut object = json!({
        "kind": served.kind.kind, "apiVersion": served.kind.api_version(),
        "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null},
    });
    if ends_list {
        object::set_meta(&mut object, "annotations", json!({"k8s.io/initial-events-end": "true"}));
    }
    Bytes::from(format!("{}\n", json!({"type": "BOOKMARK", "object": object})))
}

pub(crate) fn error_line(refusal: &Refusal) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": "ERROR", "object": refusal.to_value()})))
}
