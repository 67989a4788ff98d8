//! Ending on a signal as one ends on an error: with everything cleared away.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Exit, Failure, Result};

/// Whether the run was asked to end.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    asked: Arc<AtomicBool>,
}

impl Interrupt {
    /// From now on the first signal asks, and the next one kills: then it is the
    /// next run that clears away what is left.
    pub(crate) fn install() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let install = |signal| -> io::Result<()> {
            // In this order: the first acts only on what the second has set before.
            flag::register_conditional_default(signal, Arc::clone(&asked))?;
            flag::register(signal, Arc::clone(&asked))?;
            Ok(())
        };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            install(signal).map_err(|why| Failure::io("signal handler", why))?;
        }
        Ok(Self { asked })
    }

    /// Whether a signal came.
    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The end of a run that was asked to end.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.asked() {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Failure,
            "receive",
            "interrupted by a signal; nothing was kept",
            "run the same command again",
        ))
    }
}
