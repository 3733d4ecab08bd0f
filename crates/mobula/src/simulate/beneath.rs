//! What a simulation finds beneath itself: chance and time of the C library.
//!
//! Dependencies ask for both behind our back: hash tables draw their seeds, and some libraries look at the wall clock. So `getrandom`
//! and `clock_gettime` are defined here anew, for this binary only. On a thread that is marked, bytes follow from the seed, and
//! clocks from the virtual one. On every other thread the kernel answers, as ever.
//!
//! This is the only place of the project with code that the compiler can't check. Anything may call these functions at any time, and
//! asking the virtual clock may lead back here: so they neither allocate nor panic, and no cell is borrowed.
#![allow(unsafe_code, reason = "symbols of the C library can be defined in no other way")]

use std::cell::Cell;
use std::ffi::{c_int, c_uint, c_void};

use libc::{clockid_t, timespec};
use mobula_sim::clock::{START_UNIX_MS, VirtualClock};
use rustix::time::ClockId;

/// What `CLOCK_MONOTONIC` says when a simulation begins, in µs.
const BOOT_US: u64 = 1_000_000;

#[derive(Clone, Copy)]
struct Mark {
    random: u64,
    clock: Option<VirtualClock>,
    /// The last time that was said, in µs; time stands until there is a clock.
    now_us: u64,
}

thread_local! {
    static MARK: Cell<Option<Mark>> = const { Cell::new(None) };
}

/// While it lives, this thread is in a simulation.
pub struct Marked(());

/// Marks this thread. Time stands until [`follow`] gives it a clock.
pub fn mark(seed: u64) -> Marked {
    MARK.set(Some(Mark { random: seed, clock: None, now_us: 0 }));
    Marked(())
}

impl Drop for Marked {
    fn drop(&mut self) {
        MARK.set(None);
    }
}

/// From now on the time of a marked thread is that of `clock`.
pub fn follow(clock: VirtualClock) {
    if let Some(mark) = MARK.get() {
        MARK.set(Some(Mark { clock: Some(clock), ..mark }));
    }
}

/// The virtual time of this thread in µs, if it is marked.
fn virtual_us() -> Option<u64> {
    let mark = MARK.get()?;
    let Some(clock) = mark.clock else { return Some(mark.now_us) };
    // Whoever comes back here while the clock is asked finds that time stands.
    MARK.set(Some(Mark { clock: None, ..mark }));
    let now_us = clock.now_us();
    MARK.set(MARK.get().map(|after| Mark { clock: Some(clock), now_us, ..after }));
    Some(now_us)
}

/// The next eight bytes of a marked thread (`SplitMix64`).
fn draw() -> Option<[u8; 8]> {
    let mark = MARK.get()?;
    let random = mark.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    MARK.set(Some(Mark { random, ..mark }));
    let mixed = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Some((mixed ^ (mixed >> 31)).to_le_bytes())
}

/// `getrandom(2)`.
///
/// # Safety
/// As the original: `buffer` must be writable for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    if MARK.get().is_none() {
        // SAFETY: the same call with the same arguments, by the kernel.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) } as isize;
    }
    let mut written = 0;
    while written < length
        && let Some(bytes) = draw()
    {
        let count = bytes.len().min(length - written);
        // SAFETY: `written + count` is at most `length`, for which the caller vouches.
        unsafe { buffer.cast::<u8>().add(written).copy_from_nonoverlapping(bytes.as_ptr(), count) };
        written += count;
    }
    isize::try_from(written).unwrap_or(isize::MAX)
}

/// `clock_gettime(2)`.
///
/// # Safety
/// As the original: `time` must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let (virtual_start_us, of_kernel) = match clock {
        libc::CLOCK_REALTIME => (START_UNIX_MS as u64 * 1_000, ClockId::Realtime),
        libc::CLOCK_MONOTONIC => (BOOT_US, ClockId::Monotonic),
        // CPU times and the like are nobody's model.
        // SAFETY: the same call with the same arguments, by the kernel.
        _ => return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int,
    };
    let (seconds, nanoseconds) = match virtual_us() {
        Some(now_us) => {
            let at_us = virtual_start_us.saturating_add(now_us);
            ((at_us / 1_000_000) as i64, (at_us % 1_000_000 * 1_000) as i64)
        }
        None => {
            let now = rustix::time::clock_gettime(of_kernel);
            (now.tv_sec, now.tv_nsec)
        }
    };
    // SAFETY: a `timespec` is plain integers, and the caller vouches for the place.
    unsafe {
        let mut said: timespec = std::mem::zeroed();
        said.tv_sec = seconds as _;
        said.tv_nsec = nanoseconds as _;
        time.write(said);
    }
    0
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, RandomState};
    use std::thread;
    use std::time::{Duration, Instant, SystemTime};

    use super::*;

    /// What a thread sees: the seed of a hash table, bytes as TLS draws them (the library may ask the kernel itself), and the clocks.
    #[derive(Debug)]
    struct Sight {
        hash: u64,
        bytes: [u8; 32],
        unix: SystemTime,
        passed: Duration,
    }

    fn look() -> Sight {
        let provider = rustls::crypto::ring::default_provider();
        let mut bytes = [0; 32];
        provider.secure_random.fill(&mut bytes).unwrap();
        let began = Instant::now();
        thread::sleep(Duration::from_millis(3));
        Sight { hash: RandomState::new().hash_one("x"), bytes, unix: SystemTime::now(), passed: began.elapsed() }
    }

    fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        thread::spawn(work).join().unwrap()
    }

    fn in_a_simulation(seed: u64) -> Sight {
        on_a_thread(move || {
            let _mark = mark(seed);
            look()
        })
    }

    #[test]
    fn a_marked_thread_sees_what_its_seed_says_and_every_other_one_the_kernel() {
        let (one, same, other) = (in_a_simulation(7), in_a_simulation(7), in_a_simulation(8));
        assert_eq!((one.hash, one.unix), (same.hash, same.unix));
        assert_ne!(one.hash, other.hash);
        assert_eq!(one.passed, Duration::ZERO, "time stands as long as there is no clock");
        // Beside a running simulation, and after one on the same thread.
        let (beside, after) = on_a_thread(|| {
            drop(mark(7));
            let after = look();
            let _mark = mark(7);
            (on_a_thread(look), after)
        });
        for kernel in [&beside, &after] {
            assert!(kernel.bytes != one.bytes && kernel.hash != one.hash, "{kernel:?}");
            assert!(kernel.passed >= Duration::from_millis(3), "{kernel:?}");
            assert!(kernel.unix > SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + 86_400), "{kernel:?}");
        }
        assert_ne!(beside.bytes, after.bytes);
        assert_ne!(beside.hash, after.hash);
    }

    #[test]
    fn the_clocks_of_a_marked_thread_follow_the_virtual_one() {
        let (monotonic, wall) = on_a_thread(|| {
            let _mark = mark(1);
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let looked = runtime.block_on(async {
                follow(VirtualClock::start());
                let (began, wall) = (Instant::now(), SystemTime::now());
                tokio::time::sleep(Duration::from_secs(3_600)).await;
                (began.elapsed(), wall.elapsed().unwrap())
            });
            drop(runtime);
            looked
        });
        assert_eq!((monotonic, wall), (Duration::from_secs(3_600), Duration::from_secs(3_600)));
    }
}
