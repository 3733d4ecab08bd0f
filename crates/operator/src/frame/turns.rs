//! Whose request goes next: few are under way at once, and the rest wait in a row. More do not make a server faster that works
//! as fast as it can; they make each answer slower, and everybody's: while answers take many times as long as the same have
//! taken, there are half as many turns. Where it is something else that takes long (a webhook, a namespace that hangs), others
//! get their turn meanwhile.

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
/// Answers that take so many times as long as the soonest to the same: the server has more to do than it can do at once.
const DENSE: f64 = 8.0;
/// If they take no longer than so many times, it no longer has.
const NOT_DENSE: f64 = 4.0;
/// Of so many answers the mean is.
const OF_ANSWERS: f64 = 16.0;
/// How long the soonest answer counts, and as long again.
const PERIOD: Duration = Duration::from_secs(60);
/// What comes sooner is a matter of luck.
const SOONEST: Duration = Duration::from_millis(1);

/// Requests that take so long, at once. If there are more, the server is the one that is slow, and nobody gets their turns.
const MOST_SLOW: usize = 80;

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
    /// Turns at once.
    most: usize,
    taken: usize,
    crowd: Crowd,
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
        Arc::new(Turns {
            state: Mutex::new(State {
                most,
                taken: 0,
                crowd: Crowd::default(),
                slow: 0,
                row: BTreeMap::new(),
                next: 0,
            }),
        })
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
            if state.has_free() {
                state.taken += 1;
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

impl State {
    /// Turns at once, as long as it is as crowded as now.
    fn most_now(&self) -> usize {
        if self.crowd.is_dense { self.most.div_ceil(2) } else { self.most }
    }

    fn has_free(&self) -> bool {
        self.taken < self.most_now()
    }
}

/// What was asked, verb and kind: answers to the same take about the same time.
pub type Asked = (&'static str, &'static str);

/// Whether requests stand in each other's way, by how much longer answers take than the soonest to the same.
#[derive(Debug, Default)]
struct Crowd {
    is_dense: bool,
    /// How many times as long as they could the last answers took, in the mean.
    times: f64,
    soonest: BTreeMap<Asked, Soonest>,
}

/// The shortest time in which something was answered, in this period and in the one before.
#[derive(Debug)]
struct Soonest {
    since: Instant,
    now: Duration,
    before: Duration,
}

impl Crowd {
    fn learn(&mut self, asked: Asked, took: Duration, now: Instant) {
        let took = took.max(SOONEST);
        let soonest = self.soonest.entry(asked).or_insert(Soonest { since: now, now: took, before: took });
        if now.duration_since(soonest.since) > PERIOD {
            (soonest.since, soonest.before, soonest.now) = (now, soonest.now, took);
        }
        soonest.now = soonest.now.min(took);
        let times = took.as_secs_f64() / soonest.now.min(soonest.before).as_secs_f64();
        self.times += (times - self.times) / OF_ANSWERS;
        let limit = if self.is_dense { NOT_DENSE } else { DENSE };
        self.is_dense = self.times > limit;
    }
}

impl Turn {
    /// Carries out `request`, which asks for `asked`, and ends with it or after two seconds.
    pub async fn used_for<T>(self, asked: Asked, request: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let mut request = std::pin::pin!(request);
        if let Ok(answer) = tokio::time::timeout(TURN, &mut request).await {
            if let Some(turns) = &self.turns {
                let now = Instant::now();
                turns.lock().crowd.learn(asked, now.duration_since(start), now);
            }
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
        state.taken -= 1;
        while state.has_free()
            && let Some((_, next)) = state.row.pop_first()
        {
            match next.send(Turn { turns: Some(turns.clone()) }) {
                Ok(()) => state.taken += 1,
                // Whoever waited has gone.
                Err(mut unwanted) => unwanted.turns = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    const ASKED: Asked = ("create", "Pod");

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
        let hangs = tokio::spawn(turn.used_for(ASKED, tokio::time::sleep(Duration::from_secs(30))));
        tokio::task::yield_now().await;
        let next = turns.take(Rank::Since(start)).await.unwrap();
        assert_eq!(start.elapsed(), TURN);
        assert_eq!(next.used_for(ASKED, async { 7 }).await, 7);
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
                turn.used_for(ASKED, request).await;
            });
        }
        while all.join_next().await.is_some() {}
        assert_eq!(most.load(Relaxed), MOST_SLOW + 16);
        let state = turns.lock();
        assert_eq!((state.slow, state.taken), (0, 0));
    }

    /// Lets 200 ask at once for what takes `alone_ms` and as much again for each that is under way beside it, and says how many
    /// were under way at the end.
    async fn crowded(turns: &Arc<Turns>, asked: Asked, alone_ms: u64, each_ms: u64) -> usize {
        let (under_way, at_the_end) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut all = tokio::task::JoinSet::new();
        for number in 0..200 {
            let (turns, under_way, at_the_end) = (turns.clone(), under_way.clone(), at_the_end.clone());
            all.spawn(async move {
                let turn = turns.take(Rank::Since(Instant::now())).await.unwrap();
                let request = async {
                    let beside = under_way.fetch_add(1, Relaxed);
                    if number >= 160 {
                        at_the_end.fetch_max(beside + 1, Relaxed);
                    }
                    tokio::time::sleep(Duration::from_millis(alone_ms + beside as u64 * each_ms)).await;
                    under_way.fetch_sub(1, Relaxed);
                };
                turn.used_for(asked, request).await;
            });
        }
        while all.join_next().await.is_some() {}
        at_the_end.load(Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn where_answers_take_many_times_as_long_as_they_could_there_are_half_as_many_turns() {
        let turns = Turns::new(16);
        assert_eq!(crowded(&turns, ("create", "Event"), 1, 0).await, 16);
        // What takes long by itself, or for another reason than that there are many, is no crowd.
        assert_eq!(crowded(&turns, ASKED, 50, 0).await, 16);
        assert_eq!(crowded(&turns, ("patch", "Pod"), 2, 2).await, 8);
        assert!(turns.lock().crowd.is_dense);
        // It is over when it is.
        assert_eq!(crowded(&turns, ("patch", "Pod"), 2, 0).await, 16);
        assert!(!turns.lock().crowd.is_dense);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_soon_long_ago_is_no_measure_any_more() {
        let turns = Turns::new(16);
        assert_eq!(crowded(&turns, ASKED, 1, 0).await, 16);
        for _ in 0..3 {
            tokio::time::advance(PERIOD * 2).await;
            crowded(&turns, ASKED, 40, 0).await;
        }
        assert_eq!(crowded(&turns, ASKED, 40, 0).await, 16);
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
