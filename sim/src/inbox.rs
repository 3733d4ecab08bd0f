//! What the world is told: changes of objects, and what other tasks have found out.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::span::Span;
use crate::world::{Change, Key, Process};

/// A piece of news.
#[derive(Debug)]
pub enum News {
    /// An object was written or removed.
    Changed(Change),
    /// The Ray node in a pod of this cluster has left by itself.
    Left {
        /// The RayCluster.
        cluster: Key,
        /// Pod name.
        pod: String,
    },
    /// A process is to be killed after a time.
    Dies {
        /// Which.
        process: Process,
        /// After how long.
        after: Span,
    },
    /// Work in this cluster ends at another time than before.
    RayChanged(Key),
}

/// Clones are the same box.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    news: Arc<Mutex<Vec<News>>>,
    bell: Arc<Notify>,
}

impl Inbox {
    /// Puts something in.
    pub fn put(&self, news: News) {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).push(news);
        self.bell.notify_one();
    }

    /// Takes everything out.
    pub fn take(&self) -> Vec<News> {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Waits until something is put in.
    pub async fn ring(&self) {
        self.bell.notified().await;
    }
}
