//! Disk errors of the cache. foyer writes in the background and reports a failure in its log and
//! nowhere else, so these layers of the log count its errors and keep the repetitions out of ours.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Filter, Layer};

static FAULTS: AtomicU64 = AtomicU64::new(0);

/// Errors so far.
pub fn count() -> u64 {
    FAULTS.load(Ordering::Relaxed)
}

/// Whether an event is foyer's own.
fn is_foyers(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("foyer")
}

/// Counts foyer's errors.
pub struct CountFaults;

impl<S: Subscriber> Layer<S> for CountFaults {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if is_foyers(event.metadata()) && *event.metadata().level() == Level::ERROR {
            FAULTS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Only foyer's errors: nothing else costs the layer above a call.
pub struct OnlyFaults;

impl OnlyFaults {
    fn wants(metadata: &Metadata<'_>) -> bool {
        is_foyers(metadata) && *metadata.level() == Level::ERROR
    }
}

/// What a filter does not say once and for all is asked again for every span, and HTTP/2 has
/// several for every frame.
impl<S> Filter<S> for OnlyFaults {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        Self::wants(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }
}

/// Drops foyer's lines about its disk: the cache itself logs the first failure.
pub struct WithoutFaults;

impl<S> Filter<S> for WithoutFaults {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        !is_foyers(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_foyers(metadata) { Interest::never() } else { Interest::always() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }
}
