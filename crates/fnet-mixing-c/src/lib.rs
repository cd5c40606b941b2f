//! `fnet-mixing` for C. The header `include/fnet_mixing.h` is made from this file.

use std::ffi::{c_char, c_int};

use fnet_mixing::{FourierMixer, MixError, RaggedMixer};

/// What became of a call.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FnetStatus {
    /// All is well.
    FnetOk = 0,
    /// A pointer is null, or a float's is not aligned.
    FnetBadPointer = 1,
    /// A length is zero, or the sizes are larger than memory.
    FnetBadShape = 2,
    /// Offsets do not rise from 0.
    FnetBadOffsets = 3,
    /// Input and output overlap without being the same.
    FnetOverlap = 4,
    /// `FNET_SIMD` names a level that is unknown, or that this CPU lacks.
    FnetBadSimd = 5,
}

/// Mixes samples of one shape, planned once.
pub struct FnetMixer(FourierMixer);

/// Mixes sequences of any lengths, planned as lengths are first seen.
pub struct FnetRaggedMixer(RaggedMixer);

fn status_of(error: &MixError) -> FnetStatus {
    match error {
        MixError::EmptyShape { .. } | MixError::TooLarge { .. } => FnetStatus::FnetBadShape,
        MixError::WrongOffsets { .. } => FnetStatus::FnetBadOffsets,
        _ => FnetStatus::FnetBadSimd,
    }
}

/// Plans mixing for samples of `seq_len` rows of `hidden` values. Null if `seq_len` or `hidden` is zero or too large, or
/// `FNET_SIMD` is wrong; `status`, unless it is null, says which. To be freed by `fnet_mixer_free`.
///
/// # Safety
/// `status` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fnet_mixer_new(
    seq_len: usize,
    hidden: usize,
    status: *mut FnetStatus,
) -> *mut FnetMixer {
    let (mixer, became) = match FourierMixer::new(seq_len, hidden) {
        Ok(mixer) => (Box::into_raw(Box::new(FnetMixer(mixer))), FnetStatus::FnetOk),
        Err(error) => (std::ptr::null_mut(), status_of(&error)),
    };
    // SAFETY: the caller's pointer, checked for null by `as_mut`. Test: `tests/c.rs`.
    if let Some(status) = unsafe { status.as_mut() } {
        *status = became;
    }
    mixer
}

/// Frees a mixer; null is allowed.
///
/// # Safety
/// It is from `fnet_mixer_new`, and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fnet_mixer_free(mixer: *mut FnetMixer) {
    if !mixer.is_null() {
        // SAFETY: made by `Box::into_raw` in `fnet_mixer_new`. Test: `tests/c.rs`.
        drop(unsafe { Box::from_raw(mixer) });
    }
}

/// `output = Re(FFT2(input))` for each of `samples`, both `[samples, seq_len, hidden]`, row by row. `output` may be `input`.
///
/// # Safety
/// Both hold that many floats, and nobody else writes them, or reads `output`, meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fnet_mix(
    mixer: *const FnetMixer,
    input: *const f32,
    output: *mut f32,
    samples: usize,
) -> FnetStatus {
    // SAFETY: the caller's pointer, checked for null by `as_ref`. Test: `tests/c.rs`.
    let Some(FnetMixer(mixer)) = (unsafe { mixer.as_ref() }) else { return FnetStatus::FnetBadPointer };
    let len = samples.checked_mul(mixer.seq_len()).and_then(|rows| rows.checked_mul(mixer.hidden()));
    // SAFETY: as the caller promises.
    match unsafe { slices(input, output, len) } {
        Err(status) => status,
        Ok((None, data)) => became(mixer.mix_in_place(data)),
        Ok((Some(x), y)) => became(mixer.mix(x, y)),
    }
}

/// Mixing for tokens of `hidden` values. Never null; calls say what is wrong. To be freed by `fnet_ragged_mixer_free`.
#[unsafe(no_mangle)]
pub extern "C" fn fnet_ragged_mixer_new(hidden: usize) -> *mut FnetRaggedMixer {
    Box::into_raw(Box::new(FnetRaggedMixer(RaggedMixer::new(hidden))))
}

/// Frees a mixer; null is allowed.
///
/// # Safety
/// It is from `fnet_ragged_mixer_new`, and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fnet_ragged_mixer_free(mixer: *mut FnetRaggedMixer) {
    if !mixer.is_null() {
        // SAFETY: made by `Box::into_raw` in `fnet_ragged_mixer_new`. Test: `tests/c.rs`.
        drop(unsafe { Box::from_raw(mixer) });
    }
}

/// `output = Re(FFT2(input))` for each of `sequences`, packed one after another, `[tokens, hidden]`. `offsets` holds the
/// first token of each and the end of the last: `sequences + 1` numbers, from 0. `output` may be `input`.
///
/// # Safety
/// `hidden` is that of the mixer; the arrays hold that many numbers, and nobody else writes them, or reads `output`,
/// meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fnet_mix_ragged(
    mixer: *const FnetRaggedMixer,
    hidden: usize,
    offsets: *const usize,
    sequences: usize,
    input: *const f32,
    output: *mut f32,
) -> FnetStatus {
    // SAFETY: the caller's pointer, checked for null by `as_ref`. Test: `tests/c.rs`.
    let Some(FnetRaggedMixer(mixer)) = (unsafe { mixer.as_ref() }) else { return FnetStatus::FnetBadPointer };
    if offsets.is_null() || !offsets.is_aligned() || sequences >= isize::MAX as usize / size_of::<usize>() {
        return FnetStatus::FnetBadPointer;
    }
    // SAFETY: the caller's array, which is not null. Test: `tests/c.rs`.
    let offsets = unsafe { std::slice::from_raw_parts(offsets, sequences + 1) };
    let len = offsets[sequences].checked_mul(hidden);
    // SAFETY: as the caller promises.
    match unsafe { slices(input, output, len) } {
        Err(status) => status,
        Ok((None, data)) => became(mixer.mix_in_place(offsets, data)),
        Ok((Some(x), y)) => became(mixer.mix(offsets, x, y)),
    }
}

/// What a status means, in English; it lives as long as the program.
#[unsafe(no_mangle)]
pub extern "C" fn fnet_message(status: c_int) -> *const c_char {
    // A number, for any may come from C.
    let message = match status {
        0 => c"all is well",
        1 => c"a pointer is null, or a float's is not aligned",
        2 => c"a length is zero, or the sizes are larger than memory",
        3 => c"offsets do not rise from 0",
        4 => c"input and output overlap without being the same",
        5 => c"FNET_SIMD names a level that is unknown, or that this CPU lacks",
        _ => c"no such status",
    };
    message.as_ptr()
}

fn became(result: Result<(), MixError>) -> FnetStatus {
    result.map_or_else(|error| status_of(&error), |()| FnetStatus::FnetOk)
}

/// An input, unless it is the output, and an output.
type Slices<'a> = (Option<&'a [f32]>, &'a mut [f32]);

/// The caller's arrays, checked as far as they can be.
///
/// # Safety
/// Both hold `len` floats for as long as the slices live, and nobody else writes them or reads the output.
unsafe fn slices<'a>(
    input: *const f32,
    output: *mut f32,
    len: Option<usize>,
) -> Result<Slices<'a>, FnetStatus> {
    let Some(len) = len.filter(|len| *len <= isize::MAX as usize / size_of::<f32>()) else {
        return Err(FnetStatus::FnetBadShape);
    };
    if input.is_null() || output.is_null() || !input.is_aligned() || !output.is_aligned() {
        return Err(FnetStatus::FnetBadPointer);
    }
    let bytes = len * size_of::<f32>();
    let (from, to) = (input.addr(), output.addr());
    if from == to {
        // SAFETY: as the caller promises; not null, aligned. Test: `tests/c.rs`.
        return Ok((None, unsafe { std::slice::from_raw_parts_mut(output, len) }));
    }
    if from.abs_diff(to) < bytes {
        return Err(FnetStatus::FnetOverlap);
    }
    // SAFETY: as above, and apart.
    Ok(unsafe { (Some(std::slice::from_raw_parts(input, len)), std::slice::from_raw_parts_mut(output, len)) })
}
