//! Decompression with a bound on memory and on what comes out.

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

/// Largest window a frame may ask for, as a power of two: 8 MiB. It is what
/// zstd levels up to 19 use, and what RFC 8878 asks every decoder to provide.
pub const WINDOW_LOG_MAX: u32 = 23;

/// `ZSTD_error_frameParameter_windowTooLarge` of zstd's `zstd_errors.h`, as the
/// functions return it: error codes are stable, and returned negated.
const WINDOW_TOO_LARGE: usize = 0_usize.wrapping_sub(16);

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Window,
    Invalid(&'static str),
}

/// One or more zstd frames, one after the other.
pub(super) struct Inflate {
    context: DCtx<'static>,
    /// Whether all that came in so far is a number of whole frames.
    whole: bool,
}

/// How one step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The output is full; call again with another one.
    Full,
    /// The input is used up.
    Empty,
}

impl Inflate {
    /// None without memory.
    pub(super) fn new() -> Option<Self> {
        let mut context = DCtx::try_create()?;
        context
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))
            .ok()?;
        let whole = true;
        Some(Self { context, whole })
    }

    /// Appends to `output`, within its capacity.
    pub(super) fn step(
        &mut self,
        input: &mut InBuffer<'_>,
        output: &mut Vec<u8>,
    ) -> Result<Step, Refused> {
        loop {
            let before = (input.pos(), output.len());
            let at = output.len();
            let mut buffer = OutBuffer::around_pos(output, at);
            let left =
                self.context
                    .decompress_stream(&mut buffer, input)
                    .map_err(|code| match code {
                        WINDOW_TOO_LARGE => Refused::Window,
                        code => Refused::Invalid(get_error_name(code)),
                    })?;
            let progress = before != (input.pos(), output.len());
            // Called with nothing to do after the end of a frame, it says what
            // the next frame's header would need.
            if progress {
                self.whole = left == 0;
            }
            if output.len() >= output.capacity() {
                return Ok(Step::Full);
            }
            if input.pos() >= input.src.len() {
                return Ok(Step::Empty);
            }
            if !progress {
                return Err(Refused::Invalid("it makes no progress"));
            }
        }
    }

    /// Whether no frame is half done.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }
}
