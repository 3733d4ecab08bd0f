//! Whose request goes next: few are under way at once, and the rest wait in a row. More do not make a server faster that works
//! as fast as it can; they make each answer slower, and everybody's. Where it is something else that takes long (a webhook, a
//! namespace that hangs), others get their turn meanwhile.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

/// How far a request can get ahead of others: what belongs to something that began long ago overtakes what has come since, but
/// nothing that has waited for so long.
const HEAD_START: Duration = Duration::from_secs(2);
/// After so long a request does not count any more: what holds it up is not that there are many.
const TURN: Duration = Duration::from_secs(2);

/// Requests that take so long, at once. If there are more, the server is the one that is slow, and nobody gets their turns.
pub(super) const MOST_SLOW: usize = 80;

/// Where a request stands in the row.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Rank {
    /// Before all that have not waited for two seconds.
    First,
    /// As part of something that began then.
    Since(Instant),
    /// When nobody waits, or from then on like others.
    Last(Instant),
}

impl Rank {
    /// The time that it is sorted by.
    fn at(self, now: Instant) -> Instant {
        let head_start = |most| now.checked_sub(HEAD_START).unwrap_or(most);
        match self {
            Rank::First => head_start(now),
            Rank::Since(since) => since.max(head_start(since)),
            Rank::Last(latest) => latest,
        }
    }
}

/// Turns to send a request.
pub struct Turns {
    state: Mutex<State>,
}

struct State {
    free: usize,
    slow: usize,
    row: BTreeMap<(Instant, u64), oneshot::Sender<Turn>>,
    next: u64,
}

/// One request may be under way for as long as this is held, at most for two seconds.
pub struct Turn {
    turns: Option<Arc<Turns>>,
}

impl Turns {
    /// So many turns at once.
    pub fn new(most: usize) -> Arc<Turns> {
        Arc::new(Turns { state: Mutex::new(State { free: most, slow: 0, row: BTreeMap::new(), next: 0 }) })
    }

    /// Whether somebody waits whose turn it is, and not only who lets others go first.
    pub fn is_busy(&self) -> bool {
        self.lock().row.first_key_value().is_some_and(|((rank, _), _)| *rank <= Instant::now())
    }

    /// Takes a turn. `None` is never seen: the turns end with who waits for them.
    pub async fn take(self: &Arc<Self>, rank: Rank) -> Option<Turn> {
        let receiver = {
            let mut state = self.lock();
            // Nobody waits while a turn is free.
            if let Some(free) = state.free.checked_sub(1) {
                state.free = free;
                return Some(Turn { turns: Some(self.clone()) });
            }
            let (sender, receiver) = oneshot::channel();
            let number = state.next;
            state.next += 1;
            state.row.insert((rank.at(Instant::now()), number), sender);
            receiver
        };
        receiver.await.ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Carries out `request`, and ends with it or after two seconds.
    pub async fn used_for<T>(self, request: impl Future<Output = T>) -> T {
        let mut request = std::pin::pin!(request);
        if let Ok(answer) = tokio::time::timeout(TURN, &mut request).await {
            return answer;
        }
        match self.turns.as_ref().and_then(Slow::count) {
            Some(_counted) => {
                drop(self);
                request.await
            }
            None => request.await,
        }
    }
}

/// A request that goes on without its turn.
struct Slow(Arc<Turns>);

impl Slow {
    /// `None`: there are too many.
    fn count(turns: &Arc<Turns>) -> Option<Slow> {
        let mut state = turns.lock();
        if state.slow >= MOST_SLOW {
            return None;
        }
        state.slow += 1;
        Some(Slow(turns.clone()))
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.0.lock().slow -= 1;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.turns.take() else { return };
        let mut state = turns.lock();
        while let Some((_, next)) = state.row.pop_first() {
            match next.send(Turn { turns: Some(turns.clone()) }) {
                Ok(()) => return,
                // Whoever waited has gone.
                Err(mut unwanted) => unwanted.turns = None,
            }
        }
        state.free += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    /// Lets `names` wait for the one turn, each with what it asks for, and says in which order they had it.
    async fn order<F: Future<Output = Option<Turn>> + Send + 'static>(
        turns: &Arc<Turns>,
        asks: Vec<(&'static str, F)>,
    ) -> Vec<&'static str> {
        let held = turns.take(Rank::Since(Instant::now())).await;
        let had = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = tokio::task::JoinSet::new();
        for (name, ask) in asks {
            let had = had.clone();
            waiting.spawn(async move {
                let _turn = ask.await;
                had.lock().unwrap().push(name);
            });
            tokio::task::yield_now().await;
        }
        drop(held);
        while waiting.join_next().await.is_some() {}
        assert!(!turns.is_busy());
        std::mem::take(&mut *had.lock().unwrap())
    }

    type Ask = std::pin::Pin<Box<dyn Future<Output = Option<Turn>> + Send>>;

    fn since(turns: &Arc<Turns>, since: Instant) -> Ask {
        let turns = turns.clone();
        Box::pin(async move { turns.take(Rank::Since(since)).await })
    }

    #[tokio::test(start_paused = true)]
    async fn what_began_first_goes_first_and_what_can_wait_goes_last() {
        let turns = Turns::new(1);
        let start = Instant::now();
        tokio::time::advance(Duration::from_secs(60)).await;
        let second = Duration::from_secs(1);
        let (soon, last) = (turns.clone(), turns.clone());
        let asks: Vec<(&'static str, Ask)> = vec![
            ("last", Box::pin(async move { last.take(Rank::Last(Instant::now() + Duration::from_secs(30))).await })),
            ("new", since(&turns, Instant::now())),
            ("of a second ago", since(&turns, start + 59 * second)),
            ("of a minute ago", since(&turns, start)),
            ("soon", Box::pin(async move { soon.take(Rank::First).await })),
            ("new as well", since(&turns, Instant::now())),
        ];
        let had = order(&turns, asks).await;
        assert_eq!(had, ["of a minute ago", "soon", "of a second ago", "new", "new as well", "last"]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_overtaken_for_ever() {
        let turns = Turns::new(1);
        let start = Instant::now();
        let held = turns.take(Rank::Since(start)).await;
        let waits = tokio::spawn(since(&turns, Instant::now()));
        tokio::task::yield_now().await;
        tokio::time::advance(HEAD_START * 2).await;
        let old = tokio::spawn(since(&turns, start));
        tokio::task::yield_now().await;
        drop(held);
        let turn = waits.await.unwrap();
        assert!(!old.is_finished());
        drop(turn);
        assert!(old.await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_holds_up_nobody_for_long() {
        let turns = Turns::new(1);
        let start = Instant::now();
        let turn = turns.take(Rank::Since(start)).await.unwrap();
        let hangs = tokio::spawn(turn.used_for(tokio::time::sleep(Duration::from_secs(30))));
        tokio::task::yield_now().await;
        let next = turns.take(Rank::Since(start)).await.unwrap();
        assert_eq!(start.elapsed(), TURN);
        assert_eq!(next.used_for(async { 7 }).await, 7);
        hangs.await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn where_everything_is_slow_no_more_and_more_is_sent() {
        let turns = Turns::new(16);
        let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..600 {
            let (turns, under_way, most) = (turns.clone(), under_way.clone(), most.clone());
            all.spawn(async move {
                let turn = turns.take(Rank::Since(Instant::now())).await.unwrap();
                let request = async {
                    most.fetch_max(under_way.fetch_add(1, Relaxed) + 1, Relaxed);
                    tokio::time::sleep(Duration::from_secs(30)).await;
                    under_way.fetch_sub(1, Relaxed);
                };
                turn.used_for(request).await;
            });
        }
        while all.join_next().await.is_some() {}
        assert_eq!(most.load(Relaxed), MOST_SLOW + 16);
        let state = turns.lock();
        assert_eq!((state.slow, state.free), (0, 16));
    }

    #[tokio::test]
    async fn the_turn_of_who_has_gone_is_not_lost() {
        let turns = Turns::new(2);
        let held = [turns.take(Rank::Since(Instant::now())).await, turns.take(Rank::Since(Instant::now())).await];
        // One gives up while it waits, the other after it was given the turn and before it looked.
        let gives_up = tokio::spawn(since(&turns, Instant::now()));
        let mut late = Box::pin(since(&turns, Instant::now()));
        assert!(futures::poll!(&mut late).is_pending());
        tokio::task::yield_now().await;
        gives_up.abort();
        let _ = gives_up.await;
        drop(held);
        drop(late);
        assert!(!turns.is_busy());
        let both = [turns.take(Rank::Since(Instant::now())).await, turns.take(Rank::Since(Instant::now())).await];
        assert!(both.iter().all(Option::is_some));
    }
}
